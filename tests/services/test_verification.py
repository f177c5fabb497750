# SPDX-License-Identifier: Apache-2.0
"""The checks of one arriving letter: what is asked of DNS and when, and what is said when DNS does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ReversePath
from posthouse.ports import IPAddress, Peer
from posthouse.services.incoming import IncomingLetter
from posthouse.services.transaction import Client
from posthouse.services.verification import MAX_WAIT, Findings, LetterCheck, Verifier
from tests.fakes import FakeClock, FakeResolver
from tests.mailauth.sender import compose, publish, sealed, signed
from tests.services.test_incoming import MemoryBlobs
from tests.virtual_loop import run

PEER = Peer("192.0.2.7", 40_000, "192.0.2.1", 25, "t")
HELLO = "mx.author.test"


class SlowResolver(FakeResolver):
    """Counts TXT questions under way; names in `silent` never get an answer, others one after `seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()
        self.seconds = 0.1
        self.under_way = 0
        self.most = 0

    async def _wait(self, name: str) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(1e9 if name in self.silent else self.seconds)
        finally:
            self.under_way -= 1

    async def txt(self, name: str) -> list[bytes]:
        await self._wait(name)
        return await super().txt(name)

    async def names(self, address: IPAddress) -> list[str]:
        await self._wait(str(address))
        return await super().names(address)


def world() -> SlowResolver:
    dns = SlowResolver()
    publish(dns, "author.test")
    dns.host(HELLO, "192.0.2.7")
    dns.text(HELLO, b"v=spf1 a -all")
    return dns


def begun(dns: FakeResolver, sender: str = "a@author.test", **options: Any) -> LetterCheck:
    verifier = Verifier(dns, FakeClock(), authserv_id="mail.example.test", hostname="mail.example.test", **options)
    path = ReversePath(parse_address(sender) if sender else None)
    check = verifier.begin(Client(PEER, hello=HELLO), path)
    assert check is not None
    return check


async def fed(check: LetterCheck, letter: bytes) -> Findings:
    header, _, body = letter.partition(b"\r\n\r\n")
    check.read_header(header + b"\r\n\r\n")
    for start in range(0, len(body), 5):
        check.update(body[start : start + 5])
    try:
        return await check.findings()
    finally:
        await check.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left


def found_in(dns: FakeResolver, letter: bytes, sender: str = "a@author.test", **options: Any) -> Findings:
    async def check() -> Findings:
        return await fed(begun(dns, sender, **options), letter)

    return in_time(check())


def in_time(work: Coroutine[Any, Any, Findings]) -> Findings:
    async def timed() -> Findings:
        start = asyncio.get_running_loop().time()
        found = await work
        assert asyncio.get_running_loop().time() - start <= MAX_WAIT + 0.001
        return found

    return run(timed())


def words(found: Findings) -> dict[str, str]:
    return {
        "spf": found.spf.result,
        "iprev": found.iprev.result,
        "dkim": " ".join(each.result for each in found.signatures),
        "arc": found.chain.result,
        "dmarc": " ".join(each.result for each in found.dmarc),
    }


GOOD = signed(compose("a@author.test"), "author.test")


def test_an_honest_letter_passes_everything() -> None:
    found = found_in(world(), GOOD)
    assert words(found) == {"spf": "pass", "iprev": "pass", "dkim": "pass", "arc": "none", "dmarc": "pass"}
    assert (found.iprev.name, found.spf.identity, found.from_fields) == (HELLO, "mailfrom", 1)


def test_a_letter_whose_answers_are_at_hand_needs_no_task() -> None:
    dns = FakeResolver()
    publish(dns, "author.test")
    dns.host(HELLO, "192.0.2.7")

    async def check() -> Findings:
        one = begun(dns)
        header, _, body = GOOD.partition(b"\r\n\r\n")
        one.read_header(header + b"\r\n\r\n")
        one.update(body)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        start = one.findings()
        with pytest.raises(StopIteration) as end:
            start.send(None)
        await one.close()
        found: Findings = end.value.value
        return found

    found = run(check())
    assert words(found) == {"spf": "pass", "iprev": "pass", "dkim": "pass", "arc": "none", "dmarc": "pass"}


def test_the_null_sender_is_checked_by_the_name_in_ehlo() -> None:
    found = found_in(world(), compose("mailer-daemon@author.test"), "")
    assert (found.spf.result, found.spf.identity, found.spf.domain) == ("pass", "helo", HELLO)
    assert found.dmarc[0].result == "pass"  # aligned with the organization


def test_a_changed_body_fails_and_so_does_dmarc_without_spf() -> None:
    dns = world()
    publish(dns, "author.test", spf=b"v=spf1 -all")
    found = found_in(dns, GOOD.replace(b"you?", b"me?"))
    assert words(found) == {"spf": "fail", "iprev": "pass", "dkim": "fail", "arc": "none", "dmarc": "fail"}
    assert found.dmarc[0].policy == "reject"


def test_spf_and_the_reverse_name_are_asked_for_before_the_content_has_come() -> None:
    dns = world()

    async def check() -> None:
        begun_check = begun(dns)
        await asyncio.sleep(1)
        assert dns.under_way == 0
        assert "author.test" in dns.asked
        assert "s1._domainkey.author.test" not in dns.asked
        await fed(begun_check, GOOD)

    run(check())


def test_keys_and_the_policy_are_asked_for_at_the_same_time_and_each_once() -> None:
    dns = world()
    letter = signed(signed(compose("a@author.test"), "author.test"), "author.test")
    found_in(dns, letter)
    assert dns.most >= 4  # SPF, PTR, key, policy
    assert len(dns.asked) == len(set(dns.asked)), dns.asked


@pytest.mark.parametrize(
    ("silent", "wanted"),
    [
        ("author.test", {"spf": "temperror", "dkim": "pass", "dmarc": "pass"}),
        ("s1._domainkey.author.test", {"spf": "pass", "dkim": "temperror", "dmarc": "pass"}),
        ("_dmarc.author.test", {"spf": "pass", "dkim": "pass", "dmarc": "temperror"}),
        ("192.0.2.7", {"iprev": "temperror", "dmarc": "pass"}),
    ],
)
def test_what_dns_does_not_say_in_time_is_a_temperror_and_spoils_nothing_else(
    silent: str, wanted: dict[str, str]
) -> None:
    dns = world()
    dns.silent = {silent}
    assert words(found_in(dns, GOOD)).items() >= wanted.items()


def test_no_policy_applies_to_a_letter_whose_key_did_not_come() -> None:
    dns = world()
    publish(dns, "author.test", spf=b"v=spf1 -all")
    dns.silent = {"s1._domainkey.author.test"}
    assert found_in(dns, GOOD).dmarc[0].result == "temperror"


def test_broken_dns_is_a_temperror_too() -> None:
    dns = world()
    dns.broken = {"author.test", "s1._domainkey.author.test", "_dmarc.author.test", "192.0.2.7"}
    assert words(found_in(dns, GOOD)) == {
        "spf": "temperror",
        "iprev": "temperror",
        "dkim": "temperror",
        "arc": "none",
        "dmarc": "temperror",
    }


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.15])
def test_a_check_that_is_given_up_leaves_nothing_behind(seconds: float) -> None:
    dns = world()
    dns.silent = {"_dmarc.author.test"}

    async def check() -> None:
        given_up = begun(dns)
        given_up.read_header(GOOD.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        await asyncio.sleep(seconds)
        await given_up.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert dns.under_way == 0

    run(check())


def test_a_letter_without_from_is_judged_without_an_author() -> None:
    found = found_in(world(), b"Subject: x\r\n\r\nbody\r\n")
    assert (found.from_fields, found.dmarc[0].result, found.dmarc[0].author) == (0, "permerror", "")


# --- others' words --------------------------------------------------------------------------------


def test_claims_of_our_name_are_taken_out_after_the_signature_was_read() -> None:
    """A signature over such a field holds: what was signed is what came."""
    claim = b"Authentication-Results: mail.example.test; dmarc=pass header.from=bank.test\r\n"
    other = b"Authentication-Results: mx.elsewhere.test; spf=pass\r\n"
    letter = signed(compose("a@author.test", more=claim + other), "author.test")
    dns = world()

    async def check() -> tuple[bytes, Findings]:
        one = begun(dns)
        header, _, body = letter.partition(b"\r\n\r\n")
        left = one.read_header(header + b"\r\n\r\n")
        one.update(body)
        found = await one.findings()
        await one.close()
        return left, found

    left, found = run(check())
    assert claim not in left
    assert other in left
    assert found.signatures[0].result == "pass"


RESULTS = b"lists.test; dmarc=%b header.from=%b"


def listed(*, said: bytes = b"pass", about: bytes = b"author.test", sealer: str = "lists.test") -> tuple[Any, bytes]:
    """A letter that a mailing list has changed and sealed."""
    dns = world()
    publish(dns, "author.test", spf=b"v=spf1 -all")
    publish(dns, "lists.test")
    publish(dns, "other.test")
    changed = GOOD.replace(b"Subject: Hello", b"Subject: [list] Hello")
    return dns, sealed(changed, sealer, RESULTS % (said, about))


@pytest.mark.parametrize(
    ("changes", "voucher"),
    [
        ({}, "lists.test"),
        ({"said": b"fail"}, ""),
        ({"said": b"none"}, ""),
        ({"about": b"else.test"}, ""),
        ({"sealer": "other.test"}, ""),
    ],
)
def test_a_trusted_sealer_vouches_for_what_it_has_seen(changes: dict[str, Any], voucher: str) -> None:
    dns, letter = listed(**changes)
    found = found_in(dns, letter, "owner@lists.test", trusted_sealers=["lists.test"])
    assert (found.chain.result, found.dmarc[0].result) == ("pass", "fail")
    assert found.voucher == voucher


def test_a_sealer_before_one_that_is_not_trusted_vouches_for_nothing() -> None:
    dns, letter = listed()
    letter = sealed(letter, "other.test", b"other.test; arc=pass")
    assert found_in(dns, letter, trusted_sealers=["lists.test"]).voucher == ""
    assert found_in(dns, letter, trusted_sealers=["lists.test", "other.test"]).voucher == "lists.test"


def test_a_broken_chain_vouches_for_nothing() -> None:
    dns, letter = listed()
    found = found_in(dns, letter.replace(b"[list]", b"[lost]"), trusted_sealers=["lists.test"])
    assert (found.chain.result, found.voucher) == ("fail", "")


# --- who is checked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "includes_loopback", "is_exempt"),
    [
        ("192.0.2.7", False, False),
        ("2001:db8::1", False, False),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("127.0.0.1", True, False),
        ("unix", True, True),
    ],
)
def test_programs_of_this_machine_are_exempt(address: str, includes_loopback: bool, is_exempt: bool) -> None:
    verifier = Verifier(FakeResolver(), FakeClock(), authserv_id="m", hostname="m", includes_loopback=includes_loopback)
    assert verifier.is_exempt(Peer(address, 1, "192.0.2.1", 25, "t")) is is_exempt


def test_nothing_is_checked_where_it_is_off() -> None:
    verifier = Verifier(FakeResolver(), FakeClock(), authserv_id="m.test", hostname="m.test", is_on=False)
    assert verifier.begin(Client(PEER), ReversePath(None)) is None
    assert verifier.without_claims(b"Authentication-Results: m.test; spf=pass\r\nA: b\r\n") == b"A: b\r\n"


def test_keys_are_asked_for_while_a_small_letter_is_still_coming() -> None:
    dns = world()

    async def check() -> None:
        begun_check = begun(dns)
        letter = IncomingLetter(
            MemoryBlobs(), edit_header=begun_check.read_header, body_listener=begun_check, foresee=begun_check.foresee
        )
        end = GOOD.index(b"\r\n\r\n") + 4
        for start in range(0, end, 7):
            await letter.add(GOOD[start : min(start + 7, end)])
        await asyncio.sleep(1)
        assert "s1._domainkey.author.test" in dns.asked
        asked = list(dns.asked)
        await letter.add(GOOD[end:])
        await letter.finish()
        found = await begun_check.findings()
        await begun_check.close()
        assert [each.result for each in found.signatures] == ["pass"]
        assert dns.asked == asked, "it asks again"

    run(check())


@pytest.mark.parametrize("first", [b"\r\n\r\n", b"x\r\n\r\n" + GOOD, b"\r\n" + GOOD])
def test_what_only_looked_like_the_header_is_read_again(first: bytes) -> None:
    dns = world()

    async def check() -> Findings:
        begun_check = begun(dns)
        begun_check.foresee(first)
        return await fed(begun_check, GOOD)

    assert words(run(check()))["dkim"] == "pass"
