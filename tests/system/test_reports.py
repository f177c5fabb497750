# SPDX-License-Identifier: Apache-2.0
"""Reports through whole servers: what one has counted in a day is sent, signed, and read by whom it is about."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import pytest

from posthouse.app import open_house
from posthouse.composing.ground import real_machine
from posthouse.mail import structure
from posthouse.mail.decoding import decoded
from posthouse.mail.header import scan_header
from posthouse.mailauth.aggregate_reader import MAX_XML, read_aggregate
from posthouse.mailauth.dkim_verify import DkimCheck
from posthouse.mailauth.tls_report import read_tls_report
from posthouse.net.clock import SystemClock
from posthouse.ports import BlobLocation, Conflict, StoreFault, Transaction, WebFault, WebReply
from posthouse.services.report_draft import DAY
from posthouse.services.report_inbox import MAX_TRIES
from posthouse.store import reports_received
from posthouse.store.history import insert_attempt
from posthouse.store.queue_rows import Attempt
from tests.fakes import FakeResolver
from tests.mailauth.reports import dmarc_letter_of, tls_letter_of
from tests.mailauth.sender import compose, publish, signed
from tests.system.post import Post

HERE = b"v=spf1 ip4:127.0.0.1 -all"
ELSEWHERE = b"v=spf1 ip4:192.0.2.1 -all"
NOON = 1_800_000_000 // DAY * DAY + DAY / 2


class MovedClock(SystemClock):
    """Noon of some day, and later ones on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = NOON - super().wall()

    def wall(self) -> float:
        return super().wall() + self.ahead


class Web:
    """Takes or refuses what is posted."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes, str]] = []
        self.status = 200
        self.is_down = False

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        raise AssertionError(url)

    async def post(self, url: str, body: bytes, *, headers: Any, limit: int, seconds: float) -> WebReply:
        if self.is_down:
            raise WebFault("no connection: refused")
        self.taken.append((url, body, headers["content-type"]))
        return WebReply(self.status, {}, b"")


class Place:
    """A server, its DNS, its clock and its web."""

    def __init__(self, post: Post, dns: FakeResolver, clock: MovedClock, web: Web) -> None:
        self.post = post
        self.dns = dns
        self.clock = clock
        self.web = web
        self.desk = post.house.reports.desk

    async def hear(self, content: bytes, *recipients: str, sender: str) -> str:
        async with await self.post.smtp() as wire:
            reply: str = await wire.letter(sender, list(recipients) or ["bob@bob.test"], content)
            return reply

    def tomorrow(self) -> None:
        self.clock.ahead += DAY

    async def queued_letters(self) -> list[tuple[str, bytes]]:
        """(recipient, the letter as it goes out)."""
        rows = await self.post.house.database.read(
            lambda reader: reader.rows(
                "SELECT address, prefix, pack, pack_offset, length, reverse_path FROM queue_recipient r"
                " JOIN queue_letter l ON l.id = r.letter JOIN blob b ON b.id = l.blob ORDER BY r.id"
            )
        )
        found = []
        for address, prefix, pack, offset, length, reverse_path in rows:
            assert reverse_path == "", "a report that could bounce"
            content = await self.post.house.blobs.open(BlobLocation(pack, offset, length))
            found.append((address, prefix + bytes(content)))
        return found

    async def keys(self, domain: str) -> dict[str, bytes]:
        return {name: value.encode() for name, value in await self.post.house.domain_keys.records(domain)}


@pytest.fixture
def place(opener: Callable[..., Any]) -> Callable[..., Any]:
    async def place(folder: str = "data", **sections: Any) -> Place:
        dns, clock, web = FakeResolver(), MovedClock(), Web()
        dns.host("client.example.test", "127.0.0.1")
        for domain in ("author.test", "far.test"):  # what goes there waits
            dns.domain(domain, (10, f"mx.{domain}"))
            dns.broken.add(f"mx.{domain}")
        machine = replace(real_machine(), clock=clock, web=lambda _: web, public_web=None)
        sections = {"authentication": {"loopback": True, "reject": "reject"}, **sections}
        post = await opener(folder, resolver=dns, machine=machine, **sections)
        return Place(post, dns, clock, web)

    return place


def attachment(letter: bytes, media_type: bytes) -> tuple[str, bytes]:
    """File name and content."""
    for part in structure.parse(letter).walk():
        if part.media + b"/" + part.subtype == media_type:
            assert part.disposition is not None
            return dict(part.disposition.parameters)[b"filename"].decode(), decoded(part, letter)
    raise AssertionError("no such part")


def check_signatures(letter: bytes, keys: dict[str, bytes]) -> set[str]:
    """All must be good; the names of signed fields."""
    header, _, body = letter.partition(b"\r\n\r\n")
    check = DkimCheck(header + b"\r\n\r\n")
    check.update(body)
    verdicts = check.judge({name: keys[name] for name in check.key_names})
    assert [each.result.value for each in verdicts] == ["pass"] * len(keys)
    (value, *_) = scan_header(header + b"\r\n\r\n").raw(b"dkim-signature")
    return set("".join(value.decode().split("h=")[1].split(";")[0].split()).split(":"))


async def test_what_came_in_a_days_letters_is_told_to_the_domains_owner(place: Callable[..., Any]) -> None:
    here = await place()
    publish(here.dns, "author.test", spf=HERE, policy=b"p=reject; rua=mailto:dmarc@author.test")
    good = signed(compose("a@author.test"), "author.test")
    for _ in range(3):
        assert (await here.hear(good, sender="a@author.test")).startswith("250")
    publish(here.dns, "author.test", spf=ELSEWHERE, policy=b"p=reject; rua=mailto:dmarc@author.test")
    assert (await here.hear(compose("ceo@author.test"), sender="ceo@author.test")).startswith("550 5.7.1")
    (draft,) = await here.desk.preview()
    assert (draft.letters, [str(each) for each in draft.addresses]) == (4, ["dmarc@author.test"])
    assert (await here.desk.send()).sent == (), "a day that is not over"

    here.tomorrow()
    run = await here.desk.send()
    assert [(each.result, each.target, each.letters) for each in run.sent] == [("posted", "dmarc@author.test", 4)]
    assert (await here.desk.send()).sent == (), "told twice"

    ((recipient, letter),) = await here.queued_letters()
    assert recipient == "dmarc@author.test"
    scan = scan_header(letter)
    assert (scan.get(b"from") or b"").endswith(b"<postmaster@alice.test>")
    assert (scan.get(b"auto-submitted") or b"") == b"auto-generated"
    check_signatures(letter, await here.keys("alice.test"))
    name, octets = attachment(letter, b"application/gzip")
    begin = int(NOON // DAY * DAY)
    assert name == f"alice.test!author.test!{begin}!{begin + DAY - 1}.xml.gz"
    report = read_aggregate(gzip.decompress(octets))
    subject = b" ".join((scan.get(b"subject") or b"").split()).decode()
    assert subject == f"Report Domain: author.test Submitter: alice.test Report-ID: <{report.report_id}>"
    assert (report.policy.domain, report.policy.policy, report.begin) == ("author.test", "reject", begin)
    passed, failed = report.records
    assert (passed.count, passed.facts.disposition, passed.facts.source) == (3, "pass", "127.0.0.1")
    assert (passed.facts.dkim_aligned, passed.facts.spf_aligned) == (True, True)
    assert (failed.count, failed.facts.disposition, failed.facts.overrides) == (1, "reject", ())
    assert failed.facts.envelope_to == "bob.test"

    (view,) = await here.desk.sent()
    assert (view.outcome, view.report.domain) == ("waiting", "author.test")


async def test_a_report_is_read_by_the_server_that_it_is_about(place: Callable[..., Any]) -> None:
    here, there = await place("here"), await place("there")
    domain = b"p=quarantine; rua=mailto:dmarc-reports@bob.test"
    publish(here.dns, "bob.test", spf=HERE, policy=domain)
    await here.post.house.administration.remove_domain("twin.test")
    assert (await here.hear(compose("b@bob.test"), "alice@alice.test", sender="b@bob.test")).startswith("250")
    here.tomorrow()
    assert [each.result for each in (await here.desk.send()).sent] == ["failed"], "that address is not here"

    await there.post.house.administration.add_alias("dmarc-reports@bob.test", ["bob@bob.test"])
    publish(there.dns, "reporter.test", spf=HERE)
    letter = signed(dmarc_letter_of("bob.test", "postmaster@reporter.test"), "reporter.test")
    assert (await there.hear(letter, "dmarc-reports@bob.test", sender="r@reporter.test")).startswith("250")
    await there.post.house.reports.inbox.read_all()
    (report,) = await there.desk.received()
    assert (report.kind, report.domain, report.organization) == ("dmarc", "bob.test", "Reporter")
    assert (report.passed, report.failed, report.sender) == (7, 2, "reporter.test")
    view = await there.desk.domain("bob.test", 10_000 * DAY)
    assert [(each.source, each.passed, each.failed) for each in view.kinds[0].sources] == [
        ("192.0.2.99", 0, 2),
        ("192.0.2.7", 7, 0),
    ]
    assert len(await there.post.letters("bob@bob.test")) == 1, "it is delivered all the same"


async def test_a_report_that_its_author_has_not_written_is_not_kept(place: Callable[..., Any]) -> None:
    there = await place(authentication={"loopback": True})
    publish(there.dns, "reporter.test", spf=ELSEWHERE, policy=b"p=none")
    letter = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    assert (await there.hear(letter, "postmaster@bob.test", sender="r@reporter.test")).startswith("250")
    await there.post.house.reports.inbox.read_all()
    assert await there.desk.received() == []
    (unread,) = await there.desk.unread()
    assert "DMARC fails" in unread.reason


async def test_two_servers_do_not_report_about_each_others_reports(place: Callable[..., Any]) -> None:
    here = await place()
    publish(here.dns, "author.test", spf=HERE, policy=b"p=none; rua=mailto:dmarc@author.test")
    assert (await here.hear(compose("r@author.test"), "postmaster@bob.test", sender="r@author.test")).startswith("250")
    here.tomorrow()
    assert (await here.desk.send()).sent == ()
    assert await here.queued_letters() == []
    assert await here.desk.sent() == []


def tls_results(
    domain: str, day: int, rows: list[tuple[str, int]], hosts: tuple[str, ...] = ("mx.far.test",)
) -> Callable[[Transaction], None]:
    """`hosts`: in turns."""

    def unit(tx: Transaction) -> None:
        for (result, count), host in zip(rows, cycle(hosts), strict=False):
            tx.run(
                "INSERT INTO tls_result (day, policy_domain, policy_type, policy_text, mx_patterns, result, sending_ip,"
                " receiving_mx, receiving_helo, receiving_ip, reason, count) VALUES (:day, :domain, 'sts', :text, :mx,"
                " :result, '192.0.2.1', :host, '', '192.0.2.9', '', :count)",
                day=day,
                domain=domain,
                text="version: STSv1\nmode: enforce\nmx: *.far.test",
                mx="*.far.test",
                result=result,
                host=host if result else "",
                count=count,
            )

    return unit


async def test_tls_results_go_by_mail_and_to_the_web(place: Callable[..., Any]) -> None:
    here = await place()
    day = int(NOON // DAY)
    here.dns.text("_smtp._tls.far.test", b"v=TLSRPTv1; rua=mailto:tls@far.test,https://far.test/tls")
    await here.post.house.database.write(tls_results("far.test", day, [("", 5), ("certificate-expired", 2)]))
    await here.post.house.database.write(tls_results("silent.test", day, [("", 5)]))
    here.tomorrow()
    run = await here.desk.send()
    assert [(each.kind, each.result, each.target) for each in run.sent] == [
        ("tls", "posted", "tls@far.test"),
        ("tls", "taken", "https://far.test/tls"),
    ]
    ((recipient, letter),) = await here.queued_letters()
    assert recipient == "tls@far.test"
    names = check_signatures(letter, await here.keys("alice.test"))
    assert {"tls-report-domain", "tls-report-submitter"} <= names
    scan = scan_header(letter)
    assert (scan.get(b"tls-report-domain"), scan.get(b"tls-report-submitter")) == (b"far.test", b"alice.test")
    assert scan.get(b"tls-required") == b"No"
    name, octets = attachment(letter, b"application/tlsrpt+gzip")
    assert name == f"alice.test!far.test!{day * DAY}!{day * DAY + DAY - 1}.json.gz"
    assert here.web.taken == [("https://far.test/tls", octets, "application/tlsrpt+gzip")]
    report = read_tls_report(gzip.decompress(octets))
    assert (report.succeeded, report.failed, report.submitter) == (5, 2, "alice.test")
    assert report.policies[0].mx_patterns == ("*.far.test",)
    assert report.policies[0].failures[0].result == "certificate-expired"
    left = await here.post.house.database.read(lambda reader: reader.rows("SELECT day FROM tls_result"))
    assert left == []


async def test_a_web_server_that_is_down_is_tried_again_for_a_day(place: Callable[..., Any]) -> None:
    here = await place()
    day = int(NOON // DAY)
    here.dns.text("_smtp._tls.far.test", b"v=TLSRPTv1; rua=https://far.test/tls")
    await here.post.house.database.write(tls_results("far.test", day, [("", 5)]))
    here.tomorrow()
    here.web.is_down = True
    run = await here.desk.send()
    assert (run.sent, run.waiting) == ((), 1)
    here.web.is_down = False
    here.web.status = 503
    run = await here.desk.send()
    assert (run.sent, run.waiting) == ((), 1)
    here.web.status = 201
    assert [each.result for each in (await here.desk.send()).sent] == ["taken"]
    await here.post.house.database.write(tls_results("far.test", day + 1, [("", 5)]))
    here.web.status = 503
    here.tomorrow()
    here.tomorrow()
    run = await here.desk.send()
    assert [(each.result, each.reason) for each in run.sent] == [("failed", "HTTP 503")]
    assert (await here.desk.send()).sent == ()


async def test_sessions_that_carried_tls_reports_are_no_reason_for_another(place: Callable[..., Any]) -> None:
    here = await place()
    day = int(NOON // DAY)
    here.dns.text("_smtp._tls.far.test", b"v=TLSRPTv1; rua=mailto:tls@far.test")
    await here.post.house.database.write(tls_results("far.test", day, [("", 5)]))
    here.tomorrow()
    assert len((await here.desk.send()).sent) == 1
    await here.post.house.database.write(tls_results("far.test", day + 1, [("", 1)]))
    here.tomorrow()
    assert (await here.desk.send()).sent == ()
    assert len(await here.queued_letters()) == 1


async def test_a_report_that_was_put_off_or_failed_at_two_hosts_is_no_reason_for_another(
    place: Callable[..., Any],
) -> None:
    """RFC 8460 §3: its sessions SHOULD NOT be told. Else a host that puts off, or one without a good certificate, would
    hear every day of the report of the day before."""
    here = await place()
    database, day = here.post.house.database, int(NOON // DAY)
    here.dns.text("_smtp._tls.far.test", b"v=TLSRPTv1; rua=mailto:tls@far.test")
    await database.write(tls_results("far.test", day, [("", 5)]))
    here.tomorrow()
    [sent] = (await here.desk.send()).sent
    [row] = [each.report for each in await here.desk.sent()]
    assert row.report_id == sent.report_id
    at = here.clock.wall()

    def tried(tx: Transaction) -> None:
        for _ in range(2):
            insert_attempt(tx, Attempt(row.letter, "far.test", at, "mx.far.test", "192.0.2.1", "", ()))

    await database.write(tried)
    results = [("", 1), ("certificate-expired", 2), ("starttls-not-supported", 1)]
    await database.write(tls_results("far.test", day + 1, results, hosts=("mx1.far.test", "mx2.far.test")))
    here.tomorrow()
    assert (await here.desk.send()).sent == ()
    await database.write(tls_results("far.test", day + 2, [("certificate-expired", 1)]))
    here.tomorrow()
    assert len((await here.desk.send()).sent) == 1, "not a report's"


# --- letters of others ----------------------------------------------------------------------------


async def unread(there: Place) -> list[str]:
    await there.post.house.reports.inbox.read_all()
    return [each.reason for each in await there.desk.unread()]


async def test_a_tls_report_counts_only_with_a_signature_of_its_submitter(place: Callable[..., Any]) -> None:
    """RFC 8460 §3: reports lacking such a signature MUST be ignored by the recipient."""
    there = await place()
    publish(there.dns, "reporter.test", spf=HERE)
    publish(there.dns, "other.test", spf=HERE)
    letter = tls_letter_of("bob.test", "tls@reporter.test")
    for content in (letter, signed(letter, "other.test")):
        assert (await there.hear(content, "tls-reports@bob.test", sender="r@reporter.test")).startswith("550 5.1.1")
        assert (await there.hear(content, "postmaster@bob.test", sender="r@reporter.test")).startswith("250")
    assert await unread(there) == ["it has no good signature of reporter.test"] * 2
    assert await there.desk.received() == []
    await there.hear(signed(letter, "reporter.test"), "postmaster@bob.test", sender="r@reporter.test")
    assert len(await unread(there)) == 2
    (report,) = await there.desk.received()
    assert (report.kind, report.passed, report.failed, report.sender) == ("tls", 10, 3, "reporter.test")
    view = await there.desk.report(report.id)
    assert view is not None
    sources = [(each.source, each.is_pass, each.count) for each in view.sources]
    assert sources == [("", True, 10), ("mx.bob.test", False, 3)]


async def test_letters_that_are_no_reports_we_want(place: Callable[..., Any]) -> None:
    there = await place()
    publish(there.dns, "reporter.test", spf=HERE)
    good = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    foreign = dmarc_letter_of("far.test", "postmaster@reporter.test")
    start, end = good.index(b"H4sI"), good.rindex(b"\r\n--=_boundary--")
    bomb = good[:start] + base64.encodebytes(gzip.compress(b"\0" * 60_000_000)).replace(b"\n", b"\r\n") + good[end:]
    broken = good[:start] + b"H4sIAAAA" + good[end:]
    plain = compose("postmaster@reporter.test", body=b"<?xml version='1.0'?><feedback/>\r\n")
    for content in (good, good, foreign, bomb, broken, plain):
        reply = await there.hear(content, "postmaster@bob.test", sender="r@reporter.test")
        assert reply.startswith("250"), "whatever it holds, it is a letter"
    assert await unread(there) == [
        "cut off",
        f"larger than {MAX_XML} octets when unpacked",
        "it is about no domain that is served here",
        "it has come before",
    ]
    assert len(await there.desk.received()) == 1
    waiting = await there.post.house.database.read(lambda reader: reader.rows("SELECT letter FROM report_waiting"))
    assert waiting == []


async def test_what_waits_when_the_server_stops_is_read_at_its_next_start(
    place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await place()
    house = there.post.house
    await house.reports.inbox.stop()
    publish(there.dns, "reporter.test", spf=HERE)
    letter = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    await there.hear(letter, "postmaster@bob.test", "alice@alice.test", sender="r@reporter.test")
    assert await there.desk.received() == []
    folder, machine, settings = house.folder, house.machine, house.settings
    await there.post.close()
    again = open_house(folder, settings, machine)
    again.reports.start()
    await again.reports.inbox.read_all()
    assert len(await again.reports.desk.received()) == 1
    await again.reports.stop()
    await again.close()
    # The fixture closes it once more.
    monkeypatch.setattr(Post, "close", _nothing)


async def _nothing(_: Post) -> None:
    return None


async def test_a_letter_that_ends_the_server_is_put_aside(place: Callable[..., Any]) -> None:
    """It would be read again at each start, and end each of them."""
    there = await place()
    house = there.post.house
    await house.reports.inbox.stop()
    publish(there.dns, "reporter.test", spf=HERE)
    letters = [dmarc_letter_of("bob.test", "postmaster@reporter.test", report_id=f"{n}@r.test") for n in range(2)]
    await there.hear(letters[0], "postmaster@bob.test", sender="r@reporter.test")
    [waiting] = await house.database.read(lambda reader: reports_received.waiting(reader, 10))
    for _ in range(MAX_TRIES):
        await house.database.write(partial(reports_received.begin, letter=waiting.letter))
    await there.hear(letters[1], "postmaster@bob.test", sender="r@reporter.test")
    assert await unread(there) == [f"the server has ended {MAX_TRIES} times while it read this letter"]
    assert [each.report_id for each in await there.desk.received()] == ["1@r.test"], "those behind it are read"


async def test_a_disk_that_is_full_for_long_puts_no_report_aside(
    place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await place()
    house = there.post.house
    await house.reports.inbox.stop()
    publish(there.dns, "reporter.test", spf=HERE)
    letter = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    await there.hear(letter, "postmaster@bob.test", sender="r@reporter.test")

    def full(*_: object) -> str:
        raise StoreFault("no room", is_full=True)

    with monkeypatch.context() as patch:
        patch.setattr(reports_received, "keep", full)
        for _ in range(MAX_TRIES + 2):
            with pytest.raises(StoreFault):
                await house.reports.inbox.read_all()
    assert await unread(there) == []
    assert len(await there.desk.received()) == 1


async def test_a_report_that_the_store_never_takes_is_put_aside(
    place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await place()
    publish(there.dns, "reporter.test", spf=HERE)

    def never(*_: object) -> str:
        raise Conflict("a rule of the schema")

    monkeypatch.setattr(reports_received, "keep", never)
    letter = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    await there.hear(letter, "postmaster@bob.test", sender="r@reporter.test")
    assert await unread(there) == ["a fault of this server; its log has it"]


@pytest.mark.parametrize(
    ("domain", "is_kept"),
    [("bob.test", True), ("news.bob.test", True), ("example.test", True), ("test", False), ("notbob.test", False)],
)
async def test_what_a_report_may_be_about(place: Callable[..., Any], domain: str, is_kept: bool) -> None:
    """Our domains, those below, and one above a name of ours (mail.example.test), but not all of .test."""
    there = await place()
    publish(there.dns, "reporter.test", spf=HERE)
    letter = dmarc_letter_of(domain, "postmaster@reporter.test")
    await there.hear(letter, "postmaster@bob.test", sender="r@reporter.test")
    await there.post.house.reports.inbox.read_all()
    assert [each.domain for each in await there.desk.received()] == [domain] * is_kept


async def test_a_stranger_cannot_fill_the_store(place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_received, "MAX_ROWS_PER_SENDER", 1)
    there = await place()
    for sender in ("a.liar.test", "b.liar.test", "reporter.test"):
        publish(there.dns, sender, spf=HERE, policy=b"p=reject")
        letter = dmarc_letter_of("bob.test", f"postmaster@{sender}")
        await there.hear(letter, "postmaster@bob.test", sender=f"r@{sender}")
        await there.post.house.reports.inbox.read_all()
    assert await unread(there) == ["too many reports came from liar.test within a day"]
    assert [each.sender for each in await there.desk.received()] == ["reporter.test", "a.liar.test"]


async def test_other_addresses_are_not_looked_at(place: Callable[..., Any]) -> None:
    there = await place(reports={"inbox": ["bob@bob.test"]})
    publish(there.dns, "reporter.test", spf=HERE)
    letter = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    await there.hear(letter, "postmaster@bob.test", sender="r@reporter.test")
    await there.post.house.reports.inbox.read_all()
    assert await there.desk.received() == []
    await there.hear(letter, "bob@bob.test", sender="r@reporter.test")
    await there.post.house.reports.inbox.read_all()
    assert len(await there.desk.received()) == 1


# --- who sends ------------------------------------------------------------------------------------


async def test_the_sender_is_one_whose_domain_can_sign(place: Callable[..., Any]) -> None:
    post = (await place()).post.house.reports.reporting._post
    sender = await post.sender()
    assert (str(sender.address), sender.organization, sender.is_signed) == (
        "postmaster@alice.test",
        "alice.test",
        True,
    ), "the hostname and the domains above it have no keys here"
    chosen = await place("chosen", reports={"address": "dmarc@bob.test", "organization": "Bob & Sons"})
    sender = await chosen.post.house.reports.reporting._post.sender()
    assert (str(sender.address), sender.organization, sender.is_signed) == ("dmarc@bob.test", "Bob & Sons", True)
    unsigned = await place("unsigned", reports={"address": "dmarc@nokeys.test"})
    assert not (await unsigned.post.house.reports.reporting._post.sender()).is_signed


async def test_a_domain_above_the_hostname_signs(place: Callable[..., Any]) -> None:
    here = await place()
    await here.post.house.administration.add_domain("example.test")
    sender = await here.post.house.reports.reporting._post.sender()
    assert str(sender.address) == "postmaster@example.test"


async def test_reports_to_an_address_here_are_delivered_and_read(place: Callable[..., Any]) -> None:
    """What others do in our domains' name is worth a report to ourselves."""
    here = await place()
    publish(here.dns, "bob.test", spf=HERE, policy=b"p=none; rua=mailto:postmaster@bob.test")
    await here.hear(compose("forger@bob.test"), "alice@alice.test", sender="forger@bob.test")
    here.tomorrow()
    (sent,) = (await here.desk.send()).sent
    assert (sent.target, sent.result) == ("postmaster@bob.test", "posted")
    await here.post.house.reports.inbox.read_all()
    (report,) = await here.desk.received()
    assert (report.domain, report.passed, report.sender) == ("bob.test", 1, "")
    (view,) = await here.desk.sent()
    assert view.outcome == "delivered"


async def test_excluded_domains_and_unauthorized_targets_are_told_in_the_list(place: Callable[..., Any]) -> None:
    here = await place(reports={"exclude": ["author.test"]})
    publish(here.dns, "author.test", spf=HERE, policy=b"p=none; rua=mailto:dmarc@author.test")
    publish(here.dns, "far.test", spf=HERE, policy=b"p=none; rua=mailto:victim@author.test")
    for name in ("author.test", "far.test"):
        await here.hear(compose(f"a@{name}"), sender=f"a@{name}")
    here.tomorrow()
    await here.desk.send()
    rows = {each.report.domain: (each.outcome, each.text) for each in await here.desk.sent()}
    assert rows["author.test"] == ("nobody", "a setting excludes the domain")
    assert rows["far.test"][0] == "nobody"
    assert "author.test does not say that it wants them" in rows["far.test"][1]
