# SPDX-License-Identifier: Apache-2.0
"""Every rule between rows, run on a sound store. What each of them finds and mends: tests/services/test_store_check.py,
on SQLite; this file runs on PostgreSQL too (`make test-interop`), where the statements must mean the same."""

import pytest

from posthouse.store import letters, rules
from posthouse.store.rules import RULES, Rule
from tests.store.letterbox import NOW, Box, letter, new_account
from tests.store.plain_database import PlainDatabase
from tests.store.test_letters import queued_letter

NO_ROW = 987_654_321
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.table} {rule.says}".replace(" ", "-"))


@pytest.fixture
def box() -> Box:
    """A store with a letter in a mailbox and one in the queue."""
    box = new_account(PlainDatabase())
    box.deliver()
    box.db.run(lambda tx: letters.accept(tx, letter(b"\r\nFor others\r\n"), [], queued_letter()))
    return box


@every_rule
def test_a_sound_store_breaks_no_rule(box: Box, rule: Rule) -> None:
    assert box.db.look(lambda reader: rules.look(reader, rule, 0, NOW)).wrong == ()


@every_rule
def test_what_breaks_no_rule_is_not_mended(box: Box, rule: Rule) -> None:
    keys = box.db.look(lambda reader: reader.rows(f"SELECT {rule.key} FROM {rule.table}"))
    rows = (NO_ROW, *(row[0] for row in keys))
    assert box.db.run(lambda tx: rules.mend(tx, rule, rows, NOW)) == 0


@every_rule
def test_mending_what_is_gone_changes_nothing(box: Box, rule: Rule) -> None:
    """The row may go between the look and the mending."""
    waiting = box.db.look(lambda reader: reader.rows("SELECT * FROM queue_letter"))
    recipients = box.db.look(lambda reader: reader.rows("SELECT * FROM queue_recipient ORDER BY id"))
    box.db.run(lambda tx: rule.mend(tx, NO_ROW, NOW))
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM queue_letter")) == waiting
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM queue_recipient ORDER BY id")) == recipients


def test_a_broken_rule_is_found_and_mended(box: Box) -> None:
    [rule] = [rule for rule in RULES if rule.says == "counts its recipients wrongly"]
    box.db.run(lambda tx: tx.run("UPDATE queue_letter SET open_recipients = 7"))
    [wrong] = box.db.look(lambda reader: rules.look(reader, rule, 0, NOW)).wrong
    assert box.db.run(lambda tx: rules.mend(tx, rule, (wrong,), NOW)) == 1
    assert box.db.look(lambda reader: reader.row("SELECT open_recipients FROM queue_letter")) == (1,)
