# SPDX-License-Identifier: Apache-2.0
"""The admin API: what every verb answers, and that what is wrong is told without harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from posthouse import config
from posthouse.app import House, open_house
from posthouse.composing.ground import real_machine
from posthouse.config import ConfigError
from posthouse.edges.control.api import control_app
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import BodyType, ForwardPath, ReversePath
from posthouse.office import office_of
from posthouse.ports import Transaction
from posthouse.services.delivery import Origin, letter_in
from posthouse.services.incoming import IncomingLetter
from posthouse.services.letterbox import Letterbox
from posthouse.store import letters, mailboxes
from posthouse.store.keys import KeyInfo
from posthouse.store.queue_rows import QueuedLetter, QueuedRecipient

ALICE = "/v1/accounts/alice@alice.test"
LETTER = b"From: bob@bob.test\nSubject: hello\nMessage-ID: <1@bob.test>\n\nhello\n"
DUE = 4_000_000_000.0  # long after every clock of a test


class World:
    def __init__(self, house: House, client: httpx2.AsyncClient, reloads: list[str]) -> None:
        self.house = house
        self.client = client
        self.reloads = reloads

    async def ask(self, method: str, path: str, code: int = 200, **parts: Any) -> Any:
        answer = await self.client.request(method, path, **parts)
        assert answer.status_code == code, answer.text
        return answer.json()

    async def enqueue(self, *recipients: str) -> str:
        """A letter in the queue for these recipients; its id."""
        paths = [ForwardPath(parse_address(each), None, None) for each in recipients]
        letter = QueuedLetter(
            reverse_path=ReversePath(parse_address("alice@alice.test"), None, BodyType.SEVEN_BIT),
            prefix=b"",
            account=None,
            language="en",
            message_id="2@alice.test",
            size=100,
            needs_eight_bit=False,
            needs_smtputf8=False,
            received_at=1_700_000_000.0,
            trace="aabb",
            recipients=tuple(QueuedRecipient(path, path.address.domain.name, DUE, DUE + 1) for path in paths),
        )

        incoming = IncomingLetter(self.house.blobs)
        await incoming.add(LETTER.replace(b"\n", b"\r\n"))
        content = await incoming.finish()
        origin = Origin("aabb", 1_700_000_000.0, b"", source="alice@alice.test")

        def unit(tx: Transaction) -> int | None:
            return letters.accept(tx, letter_in(content, letter.reverse_path, origin), [], letter).queue_id

        return str(await self.house.database.write(unit))


@pytest.fixture
async def world(house: Path) -> AsyncIterator[World]:
    opened = open_house(house, config.load(house), real_machine())
    reloads: list[str] = []

    def reload() -> list[str]:
        if reloads:
            raise ConfigError(["posthouse.toml: queue.warn: no"])
        reloads.append("done")
        return ["acme.names"]

    app = control_app(office_of(opened, reload, is_serving=False))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://posthouse") as client:
        yield World(opened, client, reloads)
    await opened.close()


async def test_status_and_reload(world: World) -> None:
    status = await world.ask("GET", "/v1/status")
    assert status["hostname"] == "mail.alice.test"
    assert status["is_serving"] is False
    assert status["queue"]["letters"] == 0
    assert await world.ask("POST", "/v1/reload") == {"restart_needed": ["acme.names"]}
    refused = await world.ask("POST", "/v1/reload", 422)
    assert refused["error"] == "posthouse.toml: queue.warn: no"


async def test_domains(world: World) -> None:
    made = await world.ask("POST", "/v1/domains", json={"name": "Bob.Test", "catch_all": "alice@alice.test"})
    assert made["id"].isdigit()
    await world.ask("POST", "/v1/domains", json={"name": "b.test", "alias_of": "bob.test"})
    rows = {row["name"]: row for row in await world.ask("GET", "/v1/domains")}
    assert set(rows) == {"alice.test", "b.test", "bob.test"}
    assert rows["bob.test"]["catch_all"] == "alice@alice.test"
    assert rows["b.test"]["alias_of"] == "bob.test"
    await world.ask("PUT", "/v1/domains/bob.test/catch-all", json={"target": None})
    refused = await world.ask("DELETE", "/v1/domains/bob.test", 422)
    assert "1 domain aliases" in refused["error"]
    assert refused["status"] == "5.5.4"
    await world.ask("DELETE", "/v1/domains/b.test")
    await world.ask("DELETE", "/v1/domains/bob.test")


async def test_dns_records_are_told_one_by_one_and_as_a_zone(world: World) -> None:
    told = await world.ask("GET", "/v1/domains/ALICE.test/dns")
    kinds = [record["kind"] for record in told["records"]]
    assert kinds[:5] == ["MX", "TXT", "TXT", "TXT", "TXT"]
    for record in told["records"]:
        assert record["zone_line"] in told["zone"].splitlines()
    refused = await world.ask("GET", "/v1/domains/nobody.test/dns", 422)
    assert "nobody.test is not served here" in refused["error"]


async def test_ids_are_text_because_json_readers_keep_53_bits(world: World) -> None:
    [account] = await world.ask("GET", "/v1/accounts")
    assert isinstance(account["id"], str)
    assert int(account["id"]) > 1 << 53


async def test_accounts(world: World) -> None:
    body = {"address": "bob@alice.test", "password": "secret", "quota": 1000, "language": "zh"}
    await world.ask("POST", "/v1/accounts", json=body)
    bob = "/v1/accounts/bob@alice.test"
    await world.ask("PATCH", bob, json={"quota": 0, "is_active": False, "is_admin": True})
    await world.ask("POST", bob + "/addresses", json={"address": "robert@alice.test"})
    [row] = [row for row in await world.ask("GET", "/v1/accounts") if row["name"] == "bob@alice.test"]
    assert (row["quota"], row["is_active"], row["is_admin"], row["language"]) == (None, False, True, "zh")
    assert sorted(row["addresses"]) == ["bob@alice.test", "robert@alice.test"]
    await world.ask("DELETE", bob + "/addresses/robert@alice.test")
    await world.ask("DELETE", bob)
    await world.ask("DELETE", bob, 422)


async def test_addresses_with_a_slash_find_their_account(world: World) -> None:
    """A local part may hold "/", "%" and "@" in quotes: paths must not fall apart on them."""
    for name in ("a/b", "addresses/x", "50%off", '"a@b"'):
        path = "/v1/accounts/" + httpx2.URL("http://x", params={"": f"{name}@alice.test"}).query.decode()[1:]
        path = path.replace("+", "%20")
        await world.ask("POST", "/v1/accounts", json={"address": f"{name}@alice.test"})
        boxes = await world.ask("GET", path + "/mailboxes")
        assert boxes[0]["name"] == "Archive"
        await world.ask("PATCH", path, json={"quota": 5})
        await world.ask("DELETE", path)


async def test_app_passwords_are_shown_once(world: World) -> None:
    made = await world.ask("POST", ALICE + "/app-passwords", json={"label": "phone", "scopes": ["pop3"]})
    [row] = await world.ask("GET", ALICE + "/app-passwords")
    assert row["id"] == made["id"]
    assert row["scopes"] == ["pop3"]
    assert "hash" not in row
    assert made["password"] not in str(row)
    await world.ask("DELETE", f"{ALICE}/app-passwords/{made['id']}")
    assert await world.ask("GET", ALICE + "/app-passwords") == []


async def test_aliases(world: World) -> None:
    body = {"address": "info@alice.test", "targets": ["alice@alice.test", "x@bob.test"]}
    await world.ask("POST", "/v1/aliases", json=body)
    assert await world.ask("GET", "/v1/aliases", params={"domain": "alice.test"}) == [body]
    await world.ask("DELETE", "/v1/aliases", json={"address": "info@alice.test"})
    assert await world.ask("GET", "/v1/aliases") == []


async def test_a_letter_put_in_comes_out_as_it_was(world: World) -> None:
    query = {"mailbox": "Old/2020", "flags": "seen,flagged", "keywords": "work", "received_at": "1600000000.5"}
    made = await world.ask("POST", ALICE + "/letters", content=LETTER, params=query)
    [item] = await world.ask("GET", ALICE + "/letters", params={"mailbox": "Old/2020"})
    assert item["uid"] == made["uid"]
    assert (item["flags"], item["keywords"], item["received_at"]) == (["seen", "flagged"], ["work"], 1600000000.5)
    answer = await world.client.get(f"{ALICE}/letters/{item['letter']}")
    assert answer.content == LETTER.replace(b"\n", b"\r\n")
    boxes = {box["name"]: box["total"] for box in await world.ask("GET", ALICE + "/mailboxes")}
    assert boxes["Old/2020"] == 1
    assert await world.ask("GET", ALICE + "/letters", params={"mailbox": "Old/2020", "after": item["uid"]}) == []


async def test_a_batch_of_letters_is_one_unit_of_work(world: World) -> None:
    """A sync for each letter made an import of ten thousand letters a matter of minutes."""
    large = b"Subject: large\r\n\r\n" + (b"y" * 70 + b"\r\n") * 5000
    batch = [
        {"octets": LETTER, "flags": ["seen"], "keywords": ["work"], "received_at": 1600000000.5},
        {"octets": b"", "mailbox": "Old"},
        {"octets": large, "mailbox": "Old"},
        {"octets": b"Subject: two\r\n\r\n"},
        {"octets": LETTER, "flags": ["loud"]},
    ]
    before = world.house.database.statistics.units
    told = await world.ask("POST", ALICE + "/letter-batches", content=msgspec.msgpack.encode(batch))
    assert world.house.database.statistics.units == before + 1
    assert [sorted(each) for each in told] == [["uid"], ["error", "status"], ["uid"], ["uid"], ["error", "status"]]
    inbox = await world.ask("GET", ALICE + "/letters")
    assert [item["uid"] for item in inbox] == [told[0]["uid"], told[3]["uid"]]
    assert (inbox[0]["flags"], inbox[0]["keywords"], inbox[0]["received_at"]) == (["seen"], ["work"], 1600000000.5)
    [old] = await world.ask("GET", ALICE + "/letters", params={"mailbox": "Old"})
    assert (await world.client.get(f"{ALICE}/letters/{old['letter']}")).content == large


async def test_a_letter_that_only_the_store_refuses_takes_no_other_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MAILBOXES", 7)  # one more than every account has
    batch = [{"octets": LETTER, "mailbox": name} for name in ("One", "Two", "INBOX")]
    told = await world.ask("POST", ALICE + "/letter-batches", content=msgspec.msgpack.encode(batch))
    assert ["error" in each for each in told] == [False, True, False]
    boxes = {box["name"]: box["total"] for box in await world.ask("GET", ALICE + "/mailboxes")}
    assert (boxes["One"], boxes["INBOX"], "Two" in boxes) == (1, 1, False)


async def test_a_letter_too_large_for_memory_goes_through_the_spool(world: World) -> None:
    body = LETTER + b"x" * 70 + b"\n" + (b"y" * 70 + b"\n") * 8000
    await world.ask("POST", ALICE + "/letters", content=body)
    [item] = await world.ask("GET", ALICE + "/letters")
    answer = await world.client.get(f"{ALICE}/letters/{item['letter']}")
    assert answer.content == body.replace(b"\n", b"\r\n")


async def test_an_imported_letter_is_sent_to_nobody(world: World) -> None:
    await world.ask("POST", ALICE + "/letters", content=b"To: x@bob.test\n\nhello\n")
    assert (await world.ask("GET", "/v1/status"))["queue"]["letters"] == 0


async def test_letters_of_others_are_not_given_out(world: World) -> None:
    await world.ask("POST", ALICE + "/letters", content=LETTER)
    [item] = await world.ask("GET", ALICE + "/letters")
    await world.ask("POST", "/v1/accounts", json={"address": "bob@alice.test"})
    await world.ask("GET", f"/v1/accounts/bob@alice.test/letters/{item['letter']}", 422)


async def test_queue_and_trace(world: World) -> None:
    number = await world.enqueue("bob@bob.test", "carl@carl.test")
    [entry] = (await world.ask("GET", "/v1/queue"))["letters"]
    assert entry["id"] == number
    assert entry["states"] == {"due": 2}
    shown = await world.ask("GET", f"/v1/queue/{number}")
    assert [each["address"] for each in shown["recipients"]] == ["bob@bob.test", "carl@carl.test"]
    assert await world.ask("POST", "/v1/queue", json={"action": "hold", "selection": "bob.test"}) == {
        "changed": 1,
        "busy": 0,
    }
    [story] = await world.ask("GET", "/v1/trace", params={"what": number})
    assert {each["address"]: each["state"] for each in story["recipients"]} == {
        "bob@bob.test": "held",
        "carl@carl.test": "due",
    }
    await world.ask("POST", "/v1/queue", json={"action": "release", "selection": ""})
    await world.ask("POST", "/v1/queue", json={"action": "retry", "selection": number})


async def test_outcomes_are_words_not_arrays(world: World) -> None:
    """A status is "5.0.0": scripts compare it as text."""
    number = await world.enqueue("bob@bob.test")
    dropped = {"action": "drop", "selection": number, "tell_sender": False}
    assert (await world.ask("POST", "/v1/queue", json=dropped))["changed"] == 1
    [story] = await world.ask("GET", "/v1/trace", params={"what": number})
    outcome = story["recipients"][0]["outcome"]
    assert outcome["status"] == "5.0.0"
    assert outcome["reply"] is None
    await world.ask("GET", f"/v1/queue/{number}", 422)


async def test_check_tells_every_area_and_the_store(world: World) -> None:
    findings = await world.ask("GET", "/v1/check", params={"store": "1"})
    areas = {each["area"]: each["level"] for each in findings}
    assert areas["store"] == "ok"
    assert {"files", "disk", "tls", "listen", "ports", "dns"} <= set(areas)
    assert all(each["remedy"] for each in findings if each["level"] != "ok")


async def test_check_and_metrics_tell_of_signing_keys_whose_records_are_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def texts(_each: KeyInfo) -> list[bytes]:
        return []

    rotation, registry = world.house.key_rotation, world.house.metrics.registry
    monkeypatch.setattr(rotation, "_texts", texts)
    assert registry.get_sample_value("posthouse_keys_not_in_dns") == 0
    await rotation.step()
    keys = await world.ask("GET", "/v1/domains/alice.test/keys")
    active = {each["selector"] for each in keys if each["state"] == "active"}
    findings = await world.ask("GET", "/v1/check")
    lost = [each for each in findings if each["area"] == "keys"]
    assert {each["level"] for each in lost} == {"error"}
    assert all(any(selector in each["remedy"] for each in lost) for selector in active)
    assert registry.get_sample_value("posthouse_keys_not_in_dns") == len(lost)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason"),
    [
        ("POST", "/v1/domains", b"{", 400, "JSON"),
        ("POST", "/v1/domains", b"{}", 400, "name"),
        ("POST", "/v1/domains", b'{"name": "a.test", "colour": 1}', 400, "colour"),
        ("POST", "/v1/domains", b'{"name": 5}', 400, "name"),
        ("POST", "/v1/domains", b'{"name": "a b"}', 422, "character"),
        ("POST", "/v1/domains", b'{"name": "alice.test"}', 422, "already"),
        ("POST", "/v1/domains", b" " * (1 << 20) + b"{}", 400, "larger"),
        ("POST", "/v1/accounts", b'{"address": "x@alice.test", "language": "fr"}', 400, "language"),
        ("POST", "/v1/accounts", b'{"address": "x@nowhere.test"}', 422, "nowhere.test is not here"),
        ("POST", "/v1/accounts", b'{"address": "x@alice.test", "quota": -5}', 400, "quota"),
        ("POST", "/v1/accounts", b'{"address": "x@alice.test", "quota": 99999999999999999999}', 400, "quota"),
        ("GET", ALICE + "/letters?after=x", b"", 400, "number"),
        ("GET", ALICE + "/letters?mailbox=Nowhere", b"", 422, "no mailbox"),
        ("GET", ALICE + "/letters/e" + "f" * 16, b"", 422, "no such letter"),
        ("GET", ALICE + "/letters/nothing", b"", 422, "no such letter"),
        ("POST", ALICE + "/letters", b"", 422, "empty"),
        ("POST", ALICE + "/letters?flags=loud", LETTER, 422, "loud"),
        ("POST", ALICE + "/letters?keywords=a b", LETTER, 422, "keyword"),
        ("POST", ALICE + "/letters?received_at=nan", LETTER, 400, "nan"),
        ("POST", ALICE + "/letters?received_at=soon", LETTER, 400, "soon"),
        ("POST", ALICE + "/letters?mailbox=%25", LETTER, 422, "mailbox name"),
        ("POST", ALICE + "/letter-batches", b"x", 400, "MessagePack"),
        ("POST", ALICE + "/letter-batches", b"\x91\x80", 400, "octets"),
        ("GET", "/v1/accounts/nobody@alice.test/letters", b"", 422, "no account"),
        ("GET", "/v1/queue/99999999999999999999999", b"", 400, "not a number"),
        ("GET", "/v1/queue/1", b"", 422, "no such letter"),
        ("GET", "/v1/queue?selection=9999999999999999999", b"", 400, "not a number"),
        ("GET", "/v1/queue?after=-1", b"", 400, "not a number"),
        ("GET", "/v1/trace?what=9999999999999999999", b"", 400, "not a number"),
        ("DELETE", ALICE + "/app-passwords/9999999999999999999", b"", 400, "not a number"),
        ("POST", "/v1/queue", b'{"action": "burn", "selection": ""}', 400, "action"),
        ("GET", "/v1/trace", b"", 400, "what"),
        ("GET", "/v1/nothing", b"", 404, "no GET /v1/nothing"),
        ("PATCH", "/v1/domains", b"", 404, "no PATCH /v1/domains"),
    ],
)
async def test_mistakes_are_named_and_change_nothing(
    world: World, method: str, path: str, body: bytes, code: int, reason: str
) -> None:
    before = await world.ask("GET", "/v1/domains"), await world.ask("GET", "/v1/accounts")
    answer = await world.client.request(method, path, content=body)
    assert answer.status_code == code, answer.text
    assert reason in answer.json()["error"]
    assert (await world.ask("GET", "/v1/domains"), await world.ask("GET", "/v1/accounts")) == before


async def test_a_fault_of_the_program_is_answered_and_the_server_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr(Letterbox, "boxes", broken)
    told = await world.ask("GET", ALICE + "/mailboxes", 500)
    assert "oops" in told["error"]
    await world.ask("GET", "/v1/status")
