# SPDX-License-Identifier: Apache-2.0
"""May this host send for that domain? check_host() of SPF (RFC 7208 §4) over the Resolver port.

Invariant: whatever records say, one check asks DNS about no more than MAX_TERMS terms, stops at the third that leads
nowhere, and has a result of §2.6.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_never

from posthouse.mail.address import AddressError, Domain
from posthouse.mailauth.iprev import plain_address, validated_names
from posthouse.mailauth.spf_macro import Facts, expand, expand_name, needs_name
from posthouse.mailauth.spf_record import (
    All,
    Directive,
    Exists,
    Hosts,
    Include,
    MacroString,
    Network,
    Ptr,
    SpfRecord,
    SpfResult,
    SpfSyntaxError,
    is_spf,
    parse_macros,
    parse_record,
)
from posthouse.ports import IPAddress, NameNotFound, Resolver, ResolverFault

__all__ = ["MAX_SECONDS", "SpfResult", "SpfVerdict", "check_hello", "check_host", "check_mail_from"]

# RFC 7208 §4.6.4, all four.
MAX_TERMS = 10  # of one check that ask DNS: include, a, mx, ptr, exists, redirect
MAX_VOID = 2  # of them that find nothing
MAX_MX = 10  # hosts of one mx
MAX_SECONDS = 20.0  # of one check

MAX_EXPLANATION = 400  # characters: an SMTP reply of a few lines (RFC 5321 §4.5.3.1.5)


@dataclass(frozen=True, slots=True)
class SpfVerdict:
    """`domain` is the identity that was checked, `identity` which: mailfrom or helo (RFC 8601 §2.7.2).

    `matched`: the terms that led to the result, from outside in, as they are written: an include, then what matched
    in it; () where nothing matched. `reason` is one line of ASCII for people. `explanation` is what the sender's domain
    has to say about a fail (§6.2), not ours to vouch for; "" without.
    """

    result: SpfResult
    domain: str
    identity: str
    matched: tuple[str, ...] = ()
    reason: str = ""
    explanation: str = ""
    terms: int = 0  # how many asked DNS


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of one record: where `record` lies and which terms matched."""

    result: SpfResult
    reason: str
    domain: str = ""
    record: SpfRecord | None = None
    matched: tuple[str, ...] = ()


class _Unmatchable(Exception):  # noqa: N818 - an answer
    """RFC 8616 §4: a local part that is not ASCII cannot be a label, so a term that has it matches nothing."""


class _Stop(Exception):  # noqa: N818 - how a term ends the whole check
    def __init__(self, result: SpfResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result


async def check_mail_from(
    resolver: Resolver, address: IPAddress, sender: str, hello: str, *, receiver: str, now: float
) -> SpfVerdict:
    """§2.4. `sender` is the reverse-path, "" for the null one: then postmaster at the name in EHLO is checked."""
    local, _, domain = sender.rpartition("@")
    facts = Facts(plain_address(address), f"{local or 'postmaster'}@{domain or hello}", hello, receiver, now)
    return await _within_time(resolver, facts, domain or hello, "mailfrom")


async def check_hello(resolver: Resolver, address: IPAddress, hello: str, *, receiver: str, now: float) -> SpfVerdict:
    """§2.3: the name in EHLO or HELO."""
    facts = Facts(plain_address(address), f"postmaster@{hello}", hello, receiver, now)
    return await _within_time(resolver, facts, hello, "helo")


async def _within_time(resolver: Resolver, facts: Facts, domain: str, identity: str) -> SpfVerdict:
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await check_host(resolver, facts, domain, identity)
    except TimeoutError:
        return SpfVerdict(SpfResult.TEMPERROR, domain, identity, reason=f"no result in {MAX_SECONDS:.0f} seconds")


async def check_host(resolver: Resolver, facts: Facts, domain: str, identity: str) -> SpfVerdict:
    """§4.1, without a limit in time. `facts.address` is no IPv4 address that comes as IPv6."""
    try:
        # Internationalized domain names MUST be encoded as A-labels (§4.3).
        domain = domain.removesuffix(".") if domain.isascii() else Domain.parse(domain).name
    except AddressError:
        return SpfVerdict(SpfResult.NONE, domain, identity, reason="no valid domain name")
    check = _Check(resolver, facts)
    try:
        answer = await check.record_of(domain)
        explanation = await check.explanation(answer)
    except _Stop as stop:
        answer, explanation = _Answer(stop.result, str(stop)), ""
    reason = _printable(answer.reason)
    return SpfVerdict(answer.result, domain, identity, answer.matched, reason, explanation, check.terms)


class _Check:
    """One evaluation with everything it includes; the limits count over all of it."""

    def __init__(self, resolver: Resolver, facts: Facts) -> None:
        self._resolver = resolver
        self._facts = facts
        self.terms = 0
        self._void = 0
        self._names: list[str] | None = None  # validated ones of the address

    async def record_of(self, domain: str) -> _Answer:
        """Look for the record of a domain, and judge by it (§4.3 to §4.7)."""
        if not _is_domain(domain) or "." not in domain or domain.startswith("["):
            return _Answer(SpfResult.NONE, "no valid domain name")
        try:
            texts = await self._resolver.txt(domain)
        except NameNotFound:
            return _Answer(SpfResult.NONE, f"{domain} does not exist")
        except ResolverFault as fault:
            raise _Stop(SpfResult.TEMPERROR, str(fault)) from None
        records = [text for text in texts if is_spf(text)]
        if not records:
            return _Answer(SpfResult.NONE, f"{domain} has no SPF record")
        if len(records) > 1:
            raise _Stop(SpfResult.PERMERROR, f"{domain} has {len(records)} SPF records")
        try:
            record = parse_record(records[0])
        except SpfSyntaxError as error:
            raise _Stop(SpfResult.PERMERROR, f"{domain}: {error}") from None
        return await self._judge(record, domain)

    async def _judge(self, record: SpfRecord, domain: str) -> _Answer:
        for directive in record.directives:
            try:
                inner = await self._matches(directive, domain)
            except _Unmatchable:
                continue
            if inner is not None:
                reason = f"{directive.text} of {domain} matches"
                return _Answer(directive.result, reason, domain, record, (directive.text, *inner))
        if record.redirect is None:
            return _Answer(SpfResult.NEUTRAL, f"nothing in the record of {domain} matches", domain, record)
        self._count_term()
        try:
            target = await self._target(record.redirect, domain)
        except _Unmatchable:
            raise _Stop(SpfResult.PERMERROR, f"redirect= of {domain}: no valid domain name") from None
        answer = await self.record_of(target)
        if answer.result is SpfResult.NONE:  # §6.1
            raise _Stop(SpfResult.PERMERROR, f"redirect= of {domain}: {answer.reason}")
        return answer

    async def _matches(self, directive: Directive, domain: str) -> tuple[str, ...] | None:
        """None: no match. Else what matched within an include."""
        match directive.mechanism:
            case All():
                return ()
            case Network(version, bits, ignored):
                address = self._facts.address
                return () if address.version == version and int(address) >> ignored == bits else None
            case Include(target):
                self._count_term()
                answer = await self.record_of(await self._target(target, domain))
                if answer.result is SpfResult.NONE:  # §5.2
                    raise _Stop(SpfResult.PERMERROR, f"{directive.text} of {domain}: {answer.reason}")
                return answer.matched if answer.result is SpfResult.PASS else None
            case Hosts(by_mx=by_mx) as hosts:
                self._count_term()
                name = await self._target(hosts.domain, domain)
                found = await (self._mail_exchangers(name) if by_mx else self._addresses(name))
                return () if self._is_among(found, hosts) else None
            case Exists(target):
                self._count_term()
                return () if await self._addresses(await self._target(target, domain), version=4) else None
            case Ptr(target):
                self._count_term()
                name = (await self._target(target, domain)).lower()
                names = await self._validated(counts=True)
                return () if any(_is_within(one.lower(), name) for one in names) else None
            case mechanism:
                assert_never(mechanism)

    def _count_term(self) -> None:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise _Stop(SpfResult.PERMERROR, f"more than {MAX_TERMS} terms ask DNS")

    def _count_void(self) -> None:
        self._void += 1
        if self._void > MAX_VOID:
            raise _Stop(SpfResult.PERMERROR, f"more than {MAX_VOID} terms find nothing in DNS")

    def _is_among(self, found: list[IPAddress], hosts: Hosts) -> bool:
        address = self._facts.address
        ignored = 32 - hosts.prefix4 if address.version == 4 else 128 - hosts.prefix6
        bits = int(address) >> ignored
        return any(int(one) >> ignored == bits for one in found)

    async def _target(self, text: MacroString, domain: str) -> str:
        if not text:
            return domain
        name = expand_name(text, self._facts, domain, await self._name_for(text, domain))
        if not name.isascii():
            raise _Unmatchable
        return name

    async def _name_for(self, text: MacroString, domain: str) -> str:
        """%{p}: the domain's own name if it is validated, else one within it, else any (§7.3)."""
        names = await self._validated() if needs_name(text) else []
        for one in names:
            if one.lower() == domain.lower():
                return one
        return next((one for one in names if _is_within(one.lower(), domain.lower())), (*names, "unknown")[0])

    async def _validated(self, *, counts: bool = False) -> list[str]:
        if self._names is None:
            try:
                self._names = await validated_names(self._resolver, self._facts.address)
            except NameNotFound:
                self._names = []
                if counts:
                    self._count_void()
        return self._names

    async def _addresses(self, name: str, *, version: int = 0) -> list[IPAddress]:
        """Of a term's own name, so it counts when there are none (§4.6.4)."""
        found = await self._addresses_of(name, version or self._facts.address.version)
        if not found:
            self._count_void()
        return found

    async def _addresses_of(self, name: str, version: int) -> list[IPAddress]:
        if not _is_domain(name):  # §4.8 leaves it open; there is nothing to ask DNS for
            return []
        try:
            return await self._resolver.addresses(name, version)
        except NameNotFound:
            return []
        except ResolverFault as fault:
            raise _Stop(SpfResult.TEMPERROR, str(fault)) from None

    async def _mail_exchangers(self, name: str) -> list[IPAddress]:
        """§5.4. A host without addresses of this kind does not count as void: the term has found its hosts."""
        try:
            records = await self._resolver.mx(name) if _is_domain(name) else []
        except NameNotFound:
            records = []
        except ResolverFault as fault:
            raise _Stop(SpfResult.TEMPERROR, str(fault)) from None
        if not records:
            self._count_void()
        if len(records) > MAX_MX:
            raise _Stop(SpfResult.PERMERROR, f"{name} has more than {MAX_MX} MX records")
        found: list[IPAddress] = []
        for record in records:
            found += await self._addresses_of(record.host, self._facts.address.version)
        return found

    async def explanation(self, answer: _Answer) -> str:
        """§6.2: what the domain whose record said fail says about it; "" when it says nothing that can be used."""
        if answer.result is not SpfResult.FAIL or answer.record is None or answer.record.explanation is None:
            return ""
        try:
            target = await self._target(answer.record.explanation, answer.domain)
            texts = await self._resolver.txt(target) if _is_domain(target) else []
            if len(texts) != 1:
                return ""
            text = parse_macros(texts[0].decode("ascii"), is_explanation=True)
        except (NameNotFound, ResolverFault, UnicodeDecodeError, SpfSyntaxError, _Unmatchable):
            return ""
        expanded = expand(text, self._facts, answer.domain, await self._name_for(text, answer.domain))
        return _printable(expanded[:MAX_EXPLANATION])


def _printable(text: str) -> str:
    """Names and senders that macros bring in may hold anything."""
    return text if text.isascii() and text.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in text)


def _is_domain(name: str) -> bool:
    """Whether DNS can be asked for it: labels of 1 to 63 characters (§4.3)."""
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)
