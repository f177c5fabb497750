# SPDX-License-Identifier: Apache-2.0
"""Says whether DANE can work here: in the log at the start, and in `posthouse check`."""

from __future__ import annotations

from posthouse.ports import SecureResolver
from posthouse.services.findings import Finding
from posthouse.telemetry import logger

REMEDY = (
    'run a validating resolver on this machine (for instance unbound, servers = ["127.0.0.1"]), or set'
    ' resolver.dnssec = "trust" when you answer for the network between; transport.dane = false silences this'
)

PASSED_OVER = (
    "only those on this machine are asked, as the others could say what those have found to be forged; name only"
    ' validating servers, and set resolver.dnssec = "trust" when you answer for the network between, or "off" to ask'
    " all of them and do without DANE"
)


async def tell_about_dnssec(resolver: SecureResolver) -> None:
    """At the start of a server that wants DANE."""
    why_not = await resolver.distrust()
    if why_not:
        logger("dane").warning("dane_is_not_possible", reason=why_not)
    else:
        logger("dane").info("dane_is_possible")


async def dnssec_findings(resolver: SecureResolver, *, wants_dane: bool) -> list[Finding]:
    passed_over = ", ".join(await resolver.passed_over())
    if not passed_over:
        return [await _dane_finding(resolver, wants_dane=wants_dane)]
    finding = Finding("dns", "warning", f"name servers that are not asked: {passed_over}", PASSED_OVER)
    return [finding, await _dane_finding(resolver, wants_dane=wants_dane)]


async def _dane_finding(resolver: SecureResolver, *, wants_dane: bool) -> Finding:
    if not wants_dane:
        return Finding("dane", "ok", "TLSA records of other hosts are not looked at (transport.dane is off)")
    why_not = await resolver.distrust()
    if why_not:
        return Finding("dane", "warning", f"TLSA records of other hosts cannot be used: {why_not}", REMEDY)
    return Finding("dane", "ok", "DNSSEC answers are validated; TLSA records of other hosts are obeyed")
