# SPDX-License-Identifier: Apache-2.0
"""Who may get a domain's DMARC reports (RFC 9990 §4)."""

from __future__ import annotations

import pytest

from posthouse.mailauth.report_destinations import MAX_DESTINATIONS, destinations_of
from posthouse.ports import ResolverFault
from tests.fakes import FakeResolver

ASKED = "blue.example.com._report._dmarc.red.example.net"


def dns() -> FakeResolver:
    found = FakeResolver()
    found.text("_dmarc.blue.example.com", b"v=DMARC1; p=none; rua=mailto:reports@red.example.net")
    found.text("_dmarc.example.com", b"v=DMARC1; p=none")
    return found


async def addresses(resolver: FakeResolver, *uris: str, domain: str = "blue.example.com") -> list[str]:
    return [str(each) for each in (await destinations_of(resolver, domain, uris)).addresses]


async def test_the_same_organization_need_not_be_asked() -> None:
    resolver = dns()
    assert await addresses(resolver, "mailto:a@blue.example.com", "mailto:b@example.com", "mailto:c@x.example.com") == [
        "a@blue.example.com",
        "b@example.com",
        "c@x.example.com",
    ]
    assert not any("_report" in name for name in resolver.asked)


@pytest.mark.parametrize(
    ("answer", "to"),
    [
        ([b"v=DMARC1"], ["reports@red.example.net"]),
        ([b"v=DMARC1;"], ["reports@red.example.net"]),
        ([b"v=DMARC1; p=reject"], ["reports@red.example.net"]),
        ([b"v=spf1 -all", b"v=DMARC1"], ["reports@red.example.net"]),
        ([b"v=DMARC1; rua=mailto:others@red.example.net"], ["others@red.example.net"]),
        ([b"v=DMARC1; rua=mailto:others@green.example.net"], []),  # neither the one nor the other
        ([b"v=DMARC1; rua=mailto:a@red.example.net,mailto:victim@b.test"], []),
        ([b"v=DMARC1; rua=https://red.example.net/"], []),
        ([], []),
        ([b"v=spf1 -all"], []),
        ([b"p=none; v=DMARC1"], []),
        ([b"v=DMARC2"], []),
    ],
)
async def test_others_must_say_that_they_want_them(answer: list[bytes], to: list[str]) -> None:
    resolver = dns()
    if answer:
        resolver.text(ASKED, *answer)
    assert await addresses(resolver, "mailto:reports@red.example.net") == to
    assert ASKED in resolver.asked


async def test_dns_that_does_not_answer_decides_nothing() -> None:
    resolver = dns()
    resolver.broken.add(ASKED)
    with pytest.raises(ResolverFault):
        await destinations_of(resolver, "blue.example.com", ["mailto:reports@red.example.net"])


async def test_what_is_refused_is_told_why() -> None:
    uris = ["https://a.test/", "mailto:nobody", "mailto:a@[192.0.2.1]", "mailto:a@far.test"]
    found = await destinations_of(dns(), "blue.example.com", uris)
    assert found.addresses == ()
    assert [uri for uri, _ in found.refused] == uris
    assert "does not say that it wants them" in found.refused[3][1]


async def test_a_name_too_long_to_ask_is_no_agreement() -> None:
    label = "x" * 60
    domain = f"{label}.{label}.{label}.example.com"
    resolver = dns()
    assert await addresses(resolver, f"mailto:a@{label}.far.test", domain=domain) == []
    assert not any("_report" in name for name in resolver.asked)


async def test_few_get_a_report_and_each_once() -> None:
    uris = [f"mailto:a{number}@example.com" for number in range(30)]
    assert await addresses(dns(), uris[0], *uris) == [uri.removeprefix("mailto:") for uri in uris[:MAX_DESTINATIONS]]
