# SPDX-License-Identifier: Apache-2.0
"""Letters that aliases pass on: under which reverse-path they leave, what is sealed about them, what comes back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import dkim
import pytest

from posthouse.composing.ground import real_machine
from posthouse.config import Settings
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ReversePath
from posthouse.mail.header import scan_header
from posthouse.mail.srs import DAY, MAX_AGE
from posthouse.mailauth.arc import ArcCheck, Chain
from posthouse.mailauth.dkim_verify import verify
from posthouse.ports import BlobLocation, Change
from posthouse.store.queue_rows import ClaimedLetter
from tests.fakes import FakeResolver
from tests.mailauth.sender import compose, publish, sealed, signed
from tests.system.post import HOSTNAME, Post, settings
from tests.system.sink import Sink

SENDER = "a@author.test"
GOOD = signed(compose(SENDER), "author.test")
AWAY = "away@bob.test"  # stands for bob@elsewhere.test
SRS = re.compile(r"MAIL FROM:<(SRS0=[a-z2-7]{8}=[a-z2-7]{2}=author\.test=a@mail\.example\.test)>")


class Moved:
    """The machine's clock, so many days later."""

    def __init__(self) -> None:
        self._clock = real_machine().clock
        self.days = 0.0

    def wall(self) -> float:
        return self._clock.wall() + self.days * DAY

    def monotonic(self) -> float:
        return self._clock.monotonic()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as sink:
        yield sink


@pytest.fixture
def dns() -> FakeResolver:
    dns = FakeResolver()
    dns.host("client.example.test", "127.0.0.1")
    for domain in ("author.test", "lists.test"):
        publish(dns, domain, spf=b"v=spf1 ip4:127.0.0.1 -all")
    return dns


@pytest.fixture
def serve(opener: Callable[..., Any], sink: Sink, dns: FakeResolver) -> Callable[..., Any]:
    async def serve(*, checks: bool = True, **sections: Any) -> Post:
        routes = dict.fromkeys(("elsewhere.test", "author.test"), f"127.0.0.1:{sink.port}")
        post: Post = await opener(
            resolver=dns, routes=routes, authentication={"loopback": checks}, queue={"retry": ["1s"]}, **sections
        )
        await post.house.key_rotation.activate(HOSTNAME, unseen=True)
        for name, value in await post.house.domain_keys.records(HOSTNAME):
            dns.text(name, value.encode())
        return post

    return serve


async def send(post: Post, content: bytes, *recipients: str, sender: str = SENDER) -> str:
    async with await post.smtp() as wire:
        return await wire.letter(sender, list(recipients) or [AWAY], content)


async def passed_on(sink: Sink, count: int = 1) -> bytes:
    await sink.wait_for(lambda: len(sink.letters) >= count)
    return sink.letters[count - 1]


def chain_of(letter: bytes, dns: FakeResolver) -> Chain:
    header, _, body = letter.partition(b"\r\n\r\n")
    check = ArcCheck(header + b"\r\n")
    check.update(body)
    return check.judge({name: b"".join(dns.text_records[name]) for name in check.key_names})


def rewritten(sink: Sink) -> str:
    found = SRS.fullmatch(sink.senders[0])
    assert found is not None, sink.senders
    return found[1]


async def test_it_leaves_under_an_address_of_ours_and_sealed(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    post = await serve()
    assert (await send(post, GOOD)).startswith("250")
    letter = await passed_on(sink)
    assert rewritten(sink)
    assert sink.recipients == ["RCPT TO:<bob@elsewhere.test>"]
    assert letter.endswith(GOOD), "an octet of the letter was changed"
    names = re.findall(rb"^([A-Za-z-]+):", letter.removesuffix(GOOD), re.MULTILINE)
    assert names == [
        b"ARC-Seal",
        b"ARC-Message-Signature",
        b"ARC-Authentication-Results",
        b"Delivered-To",
        b"Authentication-Results",
        b"Received",
    ]
    chain = chain_of(letter, dns)
    assert (chain.result, chain.count, chain.sealers) == ("pass", 1, (HOSTNAME,))
    (told,) = scan_header(letter).raw(b"arc-authentication-results")
    assert b"i=1; mail.example.test;" in told
    assert b"dmarc=pass" in told
    result, *_ = dkim.arc_verify(letter, dnsfunc=lambda name, timeout: _text(dns, name))
    assert result == dkim.CV_Pass


def _text(dns: FakeResolver, name: bytes) -> bytes:
    return b"".join(dns.text_records.get(name.decode().removesuffix("."), []))


async def test_a_chain_goes_on(serve: Callable[..., Any], sink: Sink, dns: FakeResolver) -> None:
    post = await serve()
    before = sealed(signed(compose(SENDER), "author.test"), "lists.test", b"lists.test; dmarc=pass")
    assert (await send(post, before, sender="owner@lists.test")).startswith("250")
    chain = chain_of(await passed_on(sink), dns)
    assert (chain.result, chain.sealers, chain.oldest_pass) == ("pass", ("lists.test", HOSTNAME), 0)


async def test_a_broken_chain_is_sealed_as_broken_once(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    post = await serve()
    before = sealed(compose(SENDER), "lists.test", b"lists.test; dmarc=pass").replace(b"you?", b"I?")
    await send(post, before)
    letter = await passed_on(sink)
    assert b"cv=fail" in scan_header(letter).raw(b"arc-seal")[0]
    await send(post, letter)  # with our Delivered-To it has been here
    await send(post, letter.replace(b"Delivered-To", b"X-Was"))
    assert scan_header(await passed_on(sink, 2)).count(b"arc-seal") == 2


@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_body_without_a_relaxed_signature_is_hashed_for_the_seal(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver, size: int
) -> None:
    post = await serve()
    letter = compose(SENDER, body=b"a  line \r\n" * (size // 10) + b"\r\n\r\n")
    assert (await send(post, letter, AWAY, "bob@bob.test")).startswith("250")
    assert chain_of(await passed_on(sink), dns).result == "pass"
    (here,) = await post.letters("bob@bob.test")
    assert b"ARC-Seal" not in here


async def test_a_report_about_it_goes_back_to_the_sender(serve: Callable[..., Any], sink: Sink) -> None:
    post = await serve()
    await send(post, GOOD)
    await passed_on(sink)
    back, report = rewritten(sink), compose("mailer-daemon@elsewhere.test")
    assert (await send(post, report, back.lower(), sender="")).startswith("250")
    assert (await passed_on(sink, 2)).endswith(report)
    assert sink.senders[1] == "MAIL FROM:<>"
    assert sink.recipients[1] == "RCPT TO:<a@author.test>"


async def test_nothing_else_comes_through_that_address(serve: Callable[..., Any], sink: Sink) -> None:
    clock = Moved()
    post = await serve(machine=replace(real_machine(), clock=clock))
    await send(post, GOOD)
    await passed_on(sink)
    back = rewritten(sink)
    async with await post.smtp() as wire:
        for sender, recipient, answer in (
            ("", back.replace("author", "victim"), "550 5.1.1 No such mailbox here: that address was not made here"),
            ("", back.replace("=a@", "=b@"), "550 5.1.1"),
            ("", back.replace("mail.example.test", "victim.test"), "550 5.7.1 Relaying denied"),
            ("", "SRS0=aaaaaaaa=aa=victim.test=a@mail.example.test", "550 5.1.1"),
            ("", "SRS1=aaaaaaaaaa=victim.test==a=b=c=d@mail.example.test", "550 5.1.1"),
            ("", "SRS0=nonsense@mail.example.test", "550 5.1.1"),
        ):
            await wire.ask(f"MAIL FROM:<{sender}>")
            assert (await wire.ask(f"RCPT TO:<{recipient}>")).startswith(answer), recipient
            await wire.ask("RSET")
        clock.days = MAX_AGE + 1
        await wire.ask("MAIL FROM:<>")
        assert (await wire.ask(f"RCPT TO:<{back}>")).startswith("550 5.1.1 No such mailbox here: that address has exp")


@pytest.mark.parametrize("verb", ["DATA", "BDAT 6 LAST\r\nSpam"])
async def test_who_asks_for_a_sender_hears_that_it_is_there_and_can_send_nothing(
    serve: Callable[..., Any], sink: Sink, verb: str
) -> None:
    post = await serve()
    await send(post, GOOD)
    await passed_on(sink)
    back = rewritten(sink)
    async with await post.smtp() as wire:
        assert (await wire.ask("MAIL FROM:<double-bounce@elsewhere.test>")).startswith("250")
        assert (await wire.ask(f"RCPT TO:<{back}>")).startswith("250")
        assert (await wire.ask("RCPT TO:<bob@bob.test>")).startswith("452 4.5.3")
        assert (await wire.ask(verb)).startswith("550 5.7.1 That address takes only reports")
        await wire.ask("RSET")
        await wire.ask("MAIL FROM:<spam@author.test>")
        assert (await wire.ask("RCPT TO:<bob@bob.test>")).startswith("250")
        assert (await wire.ask(f"RCPT TO:<{back}>")).startswith("550 5.7.1 That address takes only reports")
        assert (await wire.ask("DATA")).startswith("354"), "the recipient before was promised"
        assert (await wire.ask("From: a@b.test\r\n\r\nx\r\n.")).startswith("250")
    assert len(sink.letters) == 1


async def test_a_probe_that_finds_nobody_keeps_no_other_recipient_waiting(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    """452 would bring the letter back with the same recipients in the same order, until it is given up."""
    post = await serve()
    dns.text("bob.test", b"v=spf1 ip4:192.0.2.1 -all")
    dns.text("_dmarc.bob.test", b"v=DMARC1; p=none")
    assert (await send(post, compose("ghost@bob.test"), sender="ghost@bob.test")).startswith("250")
    await passed_on(sink)
    back = sink.senders[0].removeprefix("MAIL FROM:<").removesuffix(">")
    assert back.startswith("SRS0=")
    async with await post.smtp() as wire:
        assert (await wire.ask("MAIL FROM:<a@author.test>")).startswith("250")
        assert (await wire.ask(f"RCPT TO:<{back}>")).startswith("550 5.1.1")
        assert (await wire.ask("RCPT TO:<bob@bob.test>")).startswith("250")
        assert (await wire.ask("DATA")).startswith("354")


async def test_a_long_sender_is_found_by_the_letter(serve: Callable[..., Any], sink: Sink, dns: FakeResolver) -> None:
    post = await serve()
    long = "bounces-" + "x" * 50 + "@author.test"
    await send(post, GOOD, sender=long)
    await passed_on(sink)
    found = re.fullmatch(r"MAIL FROM:<(SRS0=[a-z2-7]{8}=[a-z2-7]{2}==[a-z2-7]+@mail\.example\.test)>", sink.senders[0])
    assert found is not None
    assert len(found[1].partition("@")[0]) <= 64
    assert (await send(post, compose("m@x.test"), found[1], sender="")).startswith("250")
    await passed_on(sink, 2)
    assert sink.recipients[1] == f"RCPT TO:<{long}>"


async def test_a_refusal_is_told_to_the_sender_himself_and_signed(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    answers = iter(["reject", ""])
    sink._manner = lambda: next(answers)
    post = await serve()
    await send(post, GOOD)
    report = await passed_on(sink)
    assert sink.senders[1] == "MAIL FROM:<>"
    assert sink.recipients[1] == "RCPT TO:<a@author.test>"
    assert b"SRS0" not in report
    header, _, body = report.partition(b"\r\n\r\n")
    found = verify(header + b"\r\n", body, lambda name: b"".join(dns.text_records.get(name, [])))
    assert [(each.result, each.domain) for each in found] == [("pass", HOSTNAME), ("pass", HOSTNAME)]
    assert scan_header(report).get(b"from").endswith(b"<MAILER-DAEMON@mail.example.test>")


async def test_what_was_not_checked_is_not_sealed(serve: Callable[..., Any], sink: Sink) -> None:
    post = await serve(checks=False)
    await send(post, GOOD)
    letter = await passed_on(sink)
    assert rewritten(sink)
    assert letter.endswith(GOOD)
    assert b"ARC-Seal" not in letter


async def test_own_senders_stay_as_they_are(serve: Callable[..., Any], sink: Sink) -> None:
    post = await serve()
    async with await post.submission() as wire:
        assert (await wire.letter("alice@alice.test", [AWAY], compose("alice@alice.test"))).startswith("250")
    letter = await passed_on(sink)
    assert sink.senders == ["MAIL FROM:<alice@alice.test>"]
    assert b"ARC-Seal" not in letter
    assert b"d=alice.test" in letter


async def test_it_can_be_switched_off_while_serving_and_old_addresses_still_lead_back(
    serve: Callable[..., Any], sink: Sink
) -> None:
    post = await serve()
    await send(post, GOOD)
    await passed_on(sink)
    routes = dict.fromkeys(("elsewhere.test", "author.test"), f"127.0.0.1:{sink.port}")
    changed: Settings = settings(routes=routes, authentication={"loopback": False}, forwarding={"srs": False})
    post.server.reload(changed)
    await send(post, GOOD)
    letter = await passed_on(sink, 2)
    assert sink.senders[1] == "MAIL FROM:<a@author.test>"
    assert b"Authentication-Results" not in letter, "[authentication] is not taken over"
    assert (await send(post, compose("m@x.test"), rewritten(sink), sender="")).startswith("250")


async def test_another_domain_may_take_what_comes_back(serve: Callable[..., Any], sink: Sink) -> None:
    post = await serve(forwarding={"domain": "returns.test"})
    await send(post, GOOD)
    await passed_on(sink)
    back = sink.senders[0].removeprefix("MAIL FROM:<").removesuffix(">")
    assert back.endswith("@returns.test")
    assert (await send(post, compose("m@x.test"), back, sender="")).startswith("250")
    assert (await send(post, compose("m@x.test"), "x@returns.test", sender="")).startswith("550 5.7.1")


async def test_a_letter_that_took_a_circle_still_finds_its_sender(serve: Callable[..., Any], sink: Sink) -> None:
    """Passed on by us, by a host that rewrites our address, and by us again."""
    post = await serve()
    await send(post, GOOD)
    await passed_on(sink)
    ours = rewritten(sink)
    theirs = f"SRS1=wxyz={HOSTNAME}={ours.partition('@')[0].removeprefix('SRS0')}@elsewhere.test"
    await send(post, GOOD, sender=theirs)
    await passed_on(sink, 2)
    back = sink.senders[1].removeprefix("MAIL FROM:<").removesuffix(">")
    assert back.endswith(f"@{HOSTNAME}")
    assert back != ours
    assert (await send(post, compose("m@x.test"), back, sender="")).startswith("250")
    await passed_on(sink, 3)
    assert sink.recipients[2] == "RCPT TO:<a@author.test>"


async def test_our_own_report_to_an_address_of_ours_goes_to_the_sender(serve: Callable[..., Any], sink: Sink) -> None:
    """A letter that another host has sent back under our address, and that fails at the next one."""
    post = await serve()
    await send(post, GOOD)
    await passed_on(sink)
    answers = iter(["reject", ""])
    sink._manner = lambda: next(answers)
    await send(post, GOOD, sender=rewritten(sink))
    report = await passed_on(sink, 2)
    assert b"Auto-Submitted" in report
    assert sink.recipients[2] == "RCPT TO:<a@author.test>"


async def test_a_letter_without_a_header_is_not_sealed(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    """Its fields become its body, behind the empty line that is put before them."""
    post = await serve()
    assert (await send(post, b"Hello,\r\n" + GOOD)).startswith("250")
    letter = await passed_on(sink)
    assert chain_of(letter, dns).result == "none"


async def test_a_key_that_does_not_open_stops_neither_reports_nor_forwards(
    serve: Callable[..., Any], sink: Sink
) -> None:
    post = await serve()
    await post.house.database.write(lambda tx: tx.run("UPDATE dkim_key SET private_key = :x", x=b"\x01" + b"x" * 40))
    post.house.domain_keys._forget(Change("directory"))
    answers = iter(["reject", ""])
    sink._manner = lambda: next(answers)
    assert (await send(post, GOOD)).startswith("250")
    report = await passed_on(sink)
    assert sink.senders[1] == "MAIL FROM:<>"
    assert b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=mail.example" not in report
    async with await post.submission() as wire:
        assert (await wire.letter("alice@alice.test", ["bob@bob.test"], compose("alice@alice.test"))).startswith("250")


async def test_addresses_of_before_lead_back_when_another_domain_takes_over(
    serve: Callable[..., Any], sink: Sink
) -> None:
    post = await serve()
    await send(post, GOOD)
    await passed_on(sink)
    routes = dict.fromkeys(("elsewhere.test", "author.test"), f"127.0.0.1:{sink.port}")
    post.server.reload(settings(routes=routes, forwarding={"domain": "returns.test"}))
    assert (await send(post, compose("m@x.test"), rewritten(sink), sender="")).startswith("250")


async def test_a_forged_author_of_ours_is_not_lent_our_name(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    """SPF of this host's name would be aligned with it: the next host would see DMARC pass."""
    post = await serve()
    dns.text("_dmarc.example.test", b"v=DMARC1; p=reject")
    dns.text("example.test", b"v=spf1 ip4:192.0.2.1 -all")
    assert (await send(post, compose("boss@example.test"))).startswith("250")
    await passed_on(sink)
    assert sink.senders == ["MAIL FROM:<a@author.test>"]


@pytest.mark.parametrize(
    ("sender", "author", "policy", "answer", "leaves_as"),
    [
        # bob.test is served here; mail.example.test is the host, of whose organization boss@example.test claims to be.
        ("alice@bob.test", "alice@bob.test", "p=reject", "250", "SRS0="),
        ("alice@bob.test", "alice@bob.test", "p=none", "250", "SRS0="),
        ("", "alice@bob.test", "p=reject", "250", ""),
        ("boss@example.test", "boss@example.test", "p=reject", "250", "boss@example.test"),
        ("", "boss@example.test", "p=reject", "550 5.7.1 Email rejected per DMARC policy for example.test", None),
        ("", "boss@example.test", "p=quarantine", "550 5.7.1", None),
        ("x@mail.example.test", "boss@example.test", "p=reject", "550 5.7.1", None),
        ("alice@bob.test", "boss@example.test", "p=reject", "550 5.7.1", None),
        ("alice@bob.test", "boss@example.test", "p=none", "250", "SRS0="),
        # Strict alignment: mail.example.test speaks for nobody but itself.
        ("", "boss@example.test", "p=reject; aspf=s", "250", ""),
        ("alice@bob.test", "boss@example.test", "p=reject; aspf=s", "250", "SRS0="),
        ("", "boss@mail.example.test", "p=reject; aspf=s", "550 5.7.1", None),
        # Names beside ours that are no organization of ours: the owner of all of them says so, or he himself does.
        ("", "boss@sub.example.test", "p=reject", "550 5.7.1", None),
        ("", "boss@sub.example.test", "p=reject; psd=y", "250", ""),
    ],
)
async def test_a_forged_letter_does_not_pass_at_the_next_host_because_it_came_through_here(
    serve: Callable[..., Any],
    sink: Sink,
    dns: FakeResolver,
    sender: str,
    author: str,
    policy: str,
    answer: str,
    leaves_as: str | None,
) -> None:
    post = await serve()
    for domain in ("bob.test", "example.test", "mail.example.test"):
        dns.text(domain, b"v=spf1 ip4:192.0.2.1 -all")
    for domain in ("bob.test", "example.test"):
        dns.text(f"_dmarc.{domain}", f"v=DMARC1; {policy}".encode())
    said = await send(post, compose(author), sender=sender)
    assert said.startswith(answer)
    if leaves_as is None:
        assert (await send(post, compose(author), "bob@bob.test", sender=sender)).startswith("250"), "as before"
        assert sink.letters == []
    else:
        await passed_on(sink)
        found = sink.senders[0].removeprefix("MAIL FROM:<").removesuffix(">")
        assert found.startswith(leaves_as)
        assert bool(found) == bool(leaves_as)


async def test_a_letter_of_our_own_that_nobody_can_judge_now_is_passed_on_later(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    post = await serve()
    dns.broken = {"_dmarc.example.test"}
    assert (await send(post, compose("boss@example.test"), sender="")).startswith("451 4.4.3")
    assert (await send(post, compose("boss@example.test"), "bob@bob.test", sender="")).startswith("250")
    assert sink.letters == []


async def test_what_a_domain_of_ours_has_proven_keeps_its_sender(
    serve: Callable[..., Any], sink: Sink, dns: FakeResolver
) -> None:
    """A letter of ours that another host has passed on to an alias here, or another host of ours has sent."""
    post = await serve()
    publish(dns, "bob.test", spf=b"v=spf1 ip4:192.0.2.1 -all")
    assert (await send(post, signed(compose("alice@bob.test"), "bob.test"), sender="alice@bob.test")).startswith("250")
    await passed_on(sink)
    assert sink.senders == ["MAIL FROM:<alice@bob.test>"]


async def test_a_letter_that_was_held_for_weeks_leaves_under_an_address_that_is_good(
    serve: Callable[..., Any], sink: Sink
) -> None:
    clock = Moved()
    post = await serve(machine=replace(real_machine(), clock=clock))
    path = ReversePath(parse_address(SENDER))
    came = clock.wall()
    letter = ClaimedLetter(7, BlobLocation(0, 0, 0), None, path, b"", "en", "", 0, False, False, came, "t", ())
    forwarding = post.house.trust.forwarding

    async def address() -> str:
        return str(await forwarding.reverse_path(letter))

    first = await address()
    clock.days = 5
    assert await address() == first, "a host that lets strangers wait takes the second try for another letter"
    for days in (MAX_AGE + 5, -3):  # held by an operator; the clock was set back
        clock.days = days
        assert (await send(post, compose("m@x.test"), first, sender="")).startswith("550 5.1.1")
        assert (await send(post, compose("m@x.test"), await address(), sender="")).startswith("250")
