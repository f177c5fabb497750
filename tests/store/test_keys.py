# SPDX-License-Identifier: Apache-2.0
"""Rows of DKIM keys: what an older database brings along, and which changes of state there are."""

from __future__ import annotations

import apsw
import pytest

from posthouse.outcome import Refusal
from posthouse.ports import Row, Value
from posthouse.store import keys
from posthouse.store.databases.migrate import packaged
from posthouse.store.keys import KeyState, NewKey
from posthouse.store.sealing import SecretKey
from tests.store.plain_database import PlainDatabase

KEY = SecretKey(bytes(range(32)))
NEW = NewKey("s", "ed25519", b"the private half", "cHVibGlj", b"n" * 12)


class Old:
    """A database of before; enough of a Reader for one."""

    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]:
        return list(self.connection.execute(sql, parameters))

    def row(self, sql: str, /, **parameters: Value) -> Row | None:
        return next(iter(self.rows(sql, **parameters)), None)


def test_keys_of_an_older_database_go_on() -> None:
    old = Old()
    for migration in packaged():
        if migration.name == "keys":
            sealed = KEY.seal(b"the private half", context="dkim_key/7", nonce=b"n" * 12)
            old.rows("INSERT INTO domain (id, tenant, name, created_at) VALUES (3, 1, 'example.test', 1.0)")
            old.rows(
                "INSERT INTO dkim_key (id, domain, selector, algorithm, private_key, public_key, state, created_at)"
                " VALUES (7, 3, 's', 'rsa', :sealed, 'cHVibGlj', 'active', 5.0)",
                sealed=sealed,
            )
        for statement in migration.statements:
            old.rows(statement)
    (key,) = keys.list_keys(old, KEY, "example.test", only_active=True)
    assert (key.id, key.domain, key.selector, key.private_key) == (7, "example.test", "s", b"the private half")
    assert (key.created_at, key.changed_at, key.seen_at, key.is_own) == (5.0, 5.0, None, False)


@pytest.fixture
def database() -> PlainDatabase:
    return PlainDatabase()


def state(database: PlainDatabase) -> list[str]:
    return [each.state.value for each in database.look(keys.infos)]


def test_changes_of_state_and_those_that_are_none(database: PlainDatabase) -> None:
    number = database.run(lambda tx: keys.add_own_key(tx, KEY, "mail.example.test", NEW, 1.0))
    assert not database.run(lambda tx: keys.withdraw_key(tx, number, 2.0))
    database.run(lambda tx: keys.note_seen(tx, number, 2.0))
    assert database.run(lambda tx: keys.activate_key(tx, number, 3.0))
    assert not database.run(lambda tx: keys.activate_key(tx, number, 4.0))
    assert not database.run(lambda tx: keys.forget_key(tx, number))
    assert not database.run(lambda tx: keys.withdraw_key(tx, number, 4.0))
    assert state(database) == ["active"]
    database.run(lambda tx: keys.note_seen(tx, number, None))
    assert database.look(keys.infos)[0].seen_at == 2.0, "it waits for nothing any more"
    assert database.run(lambda tx: keys.retire_key(tx, number, 5.0))
    assert database.run(lambda tx: keys.withdraw_key(tx, number, 6.0))
    assert not database.run(lambda tx: keys.activate_key(tx, number, 7.0))
    assert not database.run(lambda tx: keys.retire_key(tx, number, 7.0))
    (info,) = database.look(keys.infos)
    assert (info.state, info.changed_at, info.is_own) == (KeyState.WITHDRAWN, 6.0, True)
    assert database.run(lambda tx: keys.forget_key(tx, number))
    assert state(database) == []


def test_a_domain_that_is_gone_gets_no_key(database: PlainDatabase) -> None:
    with pytest.raises(Refusal, match="removed"):
        database.run(lambda tx: keys.add_key(tx, KEY, 99, NEW, 1.0))
