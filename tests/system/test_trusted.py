# SPDX-License-Identifier: Apache-2.0
"""Letters from other servers through the whole server, checked: what the reader's program sees, what is refused, what
`posthouse trace` tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from posthouse.edges.cli.stories import verdict_lines
from posthouse.mail.header import scan_header
from posthouse.mailauth.results import AuthResults, parse_results
from posthouse.store.letter_story import LetterStory
from tests.fakes import FakeResolver
from tests.mailauth.sender import compose, publish, sealed, signed
from tests.system.post import Post

HERE = b"v=spf1 ip4:127.0.0.1 -all"
ELSEWHERE = b"v=spf1 ip4:192.0.2.1 -all"
SENDER = "a@author.test"
GOOD = signed(compose(SENDER), "author.test")
FORGED = compose("ceo@strict.test")
BOB = "bob@bob.test"


def zones() -> FakeResolver:
    dns = FakeResolver()
    dns.host("client.example.test", "127.0.0.1")
    publish(dns, "author.test", spf=HERE)
    publish(dns, "strict.test", spf=ELSEWHERE)
    publish(dns, "mild.test", spf=ELSEWHERE, policy=b"p=quarantine")
    publish(dns, "lists.test", spf=HERE, policy=b"")
    dns.text("open.test", HERE)
    return dns


@pytest.fixture
def serve(opener: Callable[..., Any]) -> Callable[..., Any]:
    async def serve(resolver: FakeResolver | None = None, folder: str = "data", **authentication: Any) -> Post:
        section = {"loopback": True, **authentication}
        post: Post = await opener(folder, resolver=resolver or zones(), authentication=section)
        return post

    return serve


async def send(post: Post, content: bytes, *recipients: str, sender: str = SENDER) -> str:
    async with await post.smtp() as wire:
        return await wire.letter(sender, list(recipients) or [BOB], content)


async def results(post: Post, name: str = BOB) -> AuthResults:
    """Of the last letter in the INBOX."""
    scan = scan_header((await post.letters(name))[-1])
    (value,) = scan.raw(b"authentication-results")
    found = parse_results(value)
    assert found is not None
    assert found.is_well_formed
    return found


def words(found: AuthResults) -> list[str]:
    return [f"{each.method}={each.result}" for each in found.statements]


async def story(post: Post) -> LetterStory:
    stories = await post.house.queue_desk.trace(BOB)
    return stories[0]


async def told(post: Post) -> list[str]:
    verdict = (await story(post)).verdict
    assert verdict is not None
    plain = {
        "action": verdict.action,
        "local": verdict.local,
        "statements": [
            {"method": one.method, "result": one.result, "reason": one.reason, "properties": one.properties}
            for one in verdict.statements
        ],
    }
    return [line.strip() for line in verdict_lines(plain)]


async def test_an_honest_letter_arrives_with_its_results_above_our_received(serve: Callable[..., Any]) -> None:
    post = await serve()
    assert (await send(post, GOOD)).startswith("250")
    (letter,) = await post.letters(BOB)
    head = letter.removesuffix(GOOD)
    assert head != letter, "an octet of the letter was changed"
    names = re.findall(rb"^([A-Za-z-]+):", head, re.MULTILINE)
    assert names == [b"Return-Path", b"Delivered-To", b"Authentication-Results", b"Received"]
    assert b"Received: from client.example.test (client.example.test [127.0.0.1])" in head
    found = await results(post)
    assert found.authserv_id == "mail.example.test"
    assert words(found) == ["iprev=pass", "spf=pass", "dkim=pass", "dmarc=pass"]
    assert found.statements[2].get("header", "d") == "author.test"


async def test_a_programs_letter_on_this_machine_is_not_checked(opener: Callable[..., Any]) -> None:
    dns = zones()
    post = await opener(resolver=dns)
    claim = b"Authentication-Results: mail.example.test; dmarc=pass\r\n" + GOOD
    assert (await send(post, claim)).startswith("250")
    assert (await post.letters(BOB))[0].endswith(claim)
    assert dns.asked == []
    assert (await story(post)).verdict is None


async def test_lmtp_and_users_are_not_checked(serve: Callable[..., Any]) -> None:
    dns = zones()
    post = await serve(dns)
    async with await post.connect("lmtp") as wire:
        await wire.hello(verb="LHLO")
        assert (await wire.letter(SENDER, [BOB], GOOD)).startswith("250")
    async with await post.submission() as wire:
        assert (await wire.letter("alice@alice.test", [BOB], compose("alice@alice.test"))).startswith("250")
    assert len(await post.letters(BOB)) == 2
    assert all(b"Authentication-Results" not in letter for letter in await post.letters(BOB))
    assert dns.asked == []


async def test_claims_in_our_name_are_removed_with_and_without_checks(serve: Callable[..., Any]) -> None:
    claims = (
        b"Authentication-Results: mail.example.test; dmarc=pass header.from=strict.test\r\n"
        b"authentication-results : (x) MAIL.example.test 1;\r\n\tspf=pass\r\n"
    )
    other = b"Authentication-Results: mx.elsewhere.test; spf=pass\r\n"
    on, off = await serve(folder="on"), await serve(folder="off", verify=False)
    for post in (on, off):
        assert (await send(post, claims + other + GOOD)).startswith("250")
        (letter,) = await post.letters(BOB)
        assert letter.endswith(b"+0000\r\n" + other + GOOD)
        assert letter.lower().count(b"mail.example.test; ") == 0
    assert b"mail.example.test;" in (await on.letters(BOB))[0]
    assert (await off.letters(BOB))[0].lower().count(b"authentication-results") == 1


async def test_a_forged_author_goes_to_junk_and_nobody_is_told(serve: Callable[..., Any]) -> None:
    post = await serve()
    assert (await send(post, FORGED, BOB, "sales@bob.test", "away@bob.test")).startswith("250")
    for name in (BOB, "carol@bob.test"):
        assert await post.lies_in(name, "INBOX") == 0
        assert await post.lies_in(name, "Junk") == 1
    assert len(await post.queued()) == 1
    lines = await told(post)
    assert "DMARC: fail for strict.test, whose owner asks for reject" in lines[3]
    assert lines[-1] == "put among the junk: a setting says quarantine instead of reject"


async def test_a_letter_that_only_goes_on_has_its_verdict_in_its_story(serve: Callable[..., Any]) -> None:
    post = await serve()
    assert (await send(post, GOOD, "away@bob.test")).startswith("250")
    (waiting,) = await post.house.queue_desk.trace("bob@elsewhere.test")
    assert waiting.finished_at is None
    assert waiting.verdict is not None
    assert (waiting.verdict.author, waiting.verdict.aligned) == ("author.test", ("spf", "author.test"))


@pytest.mark.parametrize(
    ("letter", "options", "answer", "junk"),
    [
        (FORGED, {"reject": "reject"}, "550 5.7.1 Email rejected per DMARC policy for strict.test", 0),
        (FORGED, {"reject": "accept"}, "250", 0),
        (FORGED, {"domains": {"strict.test": {"fail": "accept"}}}, "250", 0),
        (compose("x@mild.test"), {"reject": "reject"}, "250", 1),
        (compose("x@mild.test"), {"domains": {"mild.test": {"fail": "reject"}}}, "550 5.7.1 ", 0),
        (compose("x@nothing.test"), {"reject": "reject"}, "250", 0),
        (b"Subject: x\r\n\r\nbody\r\n", {}, "550 5.6.0 The letter has no From field", 0),
        (b"From: evil@open.test\r\n" + GOOD, {}, "550 5.6.0 The letter has 2 From fields", 0),
        (b"From: evil@open.test\r\n" + GOOD, {"malformed_from": "quarantine"}, "250", 1),
        (compose("x@open.test", body=b"y\r\n"), {"spf_fail": "reject"}, "250", 0),
    ],
)
async def test_policies(
    serve: Callable[..., Any], letter: bytes, options: dict[str, Any], answer: str, junk: int
) -> None:
    post = await serve(**options)
    assert (await send(post, letter)).startswith(answer)
    assert await post.lies_in(BOB, "Junk") == junk
    assert await post.lies_in(BOB, "INBOX") == int(answer == "250" and not junk)


async def test_spf_and_reverse_names_refuse_if_asked(serve: Callable[..., Any]) -> None:
    dns = zones()
    post = await serve(dns, folder="named", spf_fail="reject", iprev_fail="reject")
    letter = compose("x@nothing.test")
    assert (await send(post, letter, sender="x@strict.test")).startswith("550 5.7.23 SPF validation failed for strict")
    assert await post.lies_in(BOB, "INBOX") == 0
    del dns.address_records["client.example.test"]
    post = await serve(dns, folder="nameless", iprev_fail="reject")  # another server: answers are kept for seconds
    assert (await send(post, letter, sender="x@open.test")).startswith("550 5.7.25 Reverse DNS validation failed")
    assert await post.lies_in(BOB, "INBOX") == 0


async def test_dns_that_fails_defers_only_if_asked(serve: Callable[..., Any]) -> None:
    dns = zones()
    dns.broken = {"_dmarc.author.test"}
    patient, strict = await serve(dns, folder="patient"), await serve(dns, folder="strict", temperror="defer")
    assert (await send(patient, GOOD)).startswith("250")
    assert "dmarc=temperror" in words(await results(patient))
    assert (await send(strict, GOOD)).startswith("451 4.4.3 The DMARC policy of author.test")


async def test_a_list_that_is_trusted_brings_what_it_has_changed(serve: Callable[..., Any]) -> None:
    strict = signed(compose("member@strict.test"), "strict.test").replace(b"Subject: Hello", b"Subject: [l] Hello")
    letter = sealed(strict, "lists.test", b"lists.test; dmarc=pass header.from=strict.test")
    for options, answer in (({}, "550 5.7.1"), ({"trusted_sealers": ["lists.test"]}, "250")):
        post = await serve(folder=answer[:3], reject="reject", **options)
        assert (await send(post, letter, sender="owner@lists.test")).startswith(answer)
    found = await results(post)
    assert words(found) == ["iprev=pass", "spf=pass", "dkim=fail", "arc=pass", "dmarc=fail"]
    assert "lists.test" in found.statements[4].reason
    assert (await told(post))[-1] == "taken all the same: the trusted sealer lists.test has seen DMARC pass (ARC)"


async def test_a_large_letter_is_checked_on_its_way_to_the_disk(serve: Callable[..., Any]) -> None:
    post = await serve()
    body = b"".join(b"line %d  \r\n" % number for number in range(60_000))
    assert (await send(post, signed(compose(SENDER, body=body), "author.test"))).startswith("250")
    assert words(await results(post))[2:] == ["dkim=pass", "dmarc=pass"]
    changed = signed(compose(SENDER, body=body), "author.test").replace(b"line 59999", b"line 60000")
    assert (await send(post, changed)).startswith("250")
    assert words(await results(post))[2:] == ["dkim=fail", "dmarc=pass"]


async def test_a_client_that_goes_away_leaves_no_check_behind(serve: Callable[..., Any]) -> None:
    post = await serve()
    async with await post.smtp() as wire:
        await wire.say_all(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>", "DATA")
        await wire.send(b"From: x\r\n")
        wire.reset()
    await post.is_quiet()
    assert (await send(post, GOOD)).startswith("250")


async def test_metrics_count_results(serve: Callable[..., Any]) -> None:
    post = await serve()
    await send(post, GOOD)
    await send(post, FORGED)
    page = post.house.metrics.page().decode()
    assert 'posthouse_mail_auth_total{method="dmarc",result="pass"} 1.0' in page
    assert 'posthouse_mail_auth_total{method="dmarc",result="fail"} 1.0' in page
