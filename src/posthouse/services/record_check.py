# SPDX-License-Identifier: Apache-2.0
"""One DNS record as it is, beside what it should be: what is wrong and what to do.

Invariant: DNS that does not answer is a warning, never a verdict; an own policy that works is not called wrong.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import replace

from posthouse.mailauth.dmarc_record import Policy, parse_record
from posthouse.ports import IPAddress, NameNotFound, Resolver, ResolverFault
from posthouse.services.dns_records import NOT_OFFERED, DnsRecord, Surroundings
from posthouse.services.findings import Finding

AREA = "dns"
QUESTION_SECONDS = 15.0  # for all questions about one record
NO_ANSWER = "no answer in time"
TRY_AGAIN = "try again later"
MAX_LABELS = 127  # RFC 1035 §2.3.4: of one name


def finding(level: str, text: str, remedy: str = "") -> Finding:
    return Finding(AREA, level, text, remedy)


class RecordCheck:
    """`resolver` has not been asked before, so that a record that was mended a minute ago is seen."""

    def __init__(self, resolver: Resolver, around: Surroundings) -> None:
        self._resolver = resolver
        self._around = around

    async def check(self, record: DnsRecord) -> list[Finding]:
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return await self._check(record)
        except (ResolverFault, TimeoutError) as fault:
            said = str(fault) or NO_ANSWER
            return [finding("warning", f"{_what(record)}: DNS does not answer ({said})", TRY_AGAIN)]

    async def _check(self, record: DnsRecord) -> list[Finding]:
        match record.kind:
            case "MX":
                return await self._mx(record)
            case "TXT":
                return await self._text(record)
            case "A" | "AAAA":
                return await self._address(record)
            case "CNAME":
                return await self._alias(record)
            case "SRV":
                return [_service(record, await self._values(record.name, "SRV"))]
            case "TLSA":
                return []  # all of them together: services/domain_check.py
            case "CAA":
                return [await self._authority(record)]
            case _:
                return []  # PTR: with the host's addresses, whether a domain is asked about or not

    # --- by kind ------------------------------------------------------------------------------------

    async def _mx(self, record: DnsRecord) -> list[Finding]:
        try:
            found = await self._resolver.mx(record.name)
        except NameNotFound:
            found = []
        own = [mx.preference for mx in found if mx.host == self._around.hostname]
        if not found:
            return [_missing(record)]
        said = ", ".join(f"{mx.preference} {mx.host or '.'}" for mx in found)
        if not own:
            return [finding("error", f"{_what(record)} is {said}: not this server", _add(record))]
        findings = []
        before = [mx.host for mx in found if mx.preference < min(own) and mx.host != self._around.hostname]
        if before:
            text = f"{_what(record)}: other servers try {', '.join(before)} first"
            remedy = "give this server the lowest number, unless that host passes the mail on to it"
            findings.append(finding("warning", text, remedy))
        policy = self._around.policy
        strangers = [mx.host for mx in found if not policy.covers(mx.host)]
        if strangers and self._around.publishes_policy and policy.mode != "none":
            level = "error" if policy.mode == "enforce" else "warning"
            text = f"{_what(record)}: {', '.join(strangers)} is not in the MTA-STS policy"
            remedy = "add it to mta_sts.mx if it takes mail for the domain, or take it out of DNS"
            findings.append(finding(level, text, remedy))
        return findings or [_good(record)]

    async def _text(self, record: DnsRecord) -> list[Finding]:
        found = await self._texts(record.name)
        tag = _tag(record.value)
        kin = [value for value in found if _tag(value) == tag]
        if not kin:
            missing = _missing(record)
            senders = self._around.senders
            if tag == "v=dmarc1" and senders.other and not senders.are_judged:
                said = f"p=none first, as SPF names other senders ({senders.other}): {missing.remedy}"
                missing = replace(missing, remedy=said)
            return [missing]
        if len(kin) > 1 and tag != "v=dkim1":
            text = f"{_what(record)}: there are {len(kin)} records with {tag}, and so none counts"
            return [finding("error", text, f"leave one of them: {record.zone_line()}")]
        if any(_squeezed(value) == _squeezed(record.value) for value in kin):
            return [_good(record)]
        match tag:
            case "v=spf1":
                # Whether it lets this host pass is asked for itself.
                return [finding("ok", f"{_what(record)} is {kin[0]!r}")]
            case "v=dkim1":
                return [_key(record, kin)]
            case "v=dmarc1":
                return [_dmarc(record, kin[0])]
            case "v=stsv1":
                text = f"{_what(record)} is {kin[0]!r}, which announces another policy than is served"
                remedy = f"replace it, so that others fetch the new one: {record.zone_line()}"
                return [finding("warning", text, remedy)]
            case "v=tlsrptv1" if _tags(kin[0]).get("rua"):
                return [finding("ok", f"{_what(record)} is {kin[0]!r}")]
            case _:
                return [finding("warning", f"{_what(record)} is {kin[0]!r}", f"posthouse would say: {record.value}")]

    async def _address(self, record: DnsRecord) -> list[Finding]:
        found = await self._addresses(record.name, 4 if record.kind == "A" else 6)
        if ipaddress.ip_address(record.value) in found:
            return [_good(record)]
        if not found:
            return [_missing(record)]
        text = f"{_what(record)} is {', '.join(map(str, found))}, and this machine has {record.value}"
        return [finding("warning", text, f"if that is no way to this machine: {record.zone_line()}")]

    async def _alias(self, record: DnsRecord) -> list[Finding]:
        """An alias, or addresses of its own."""
        target = record.value
        found = [value.lower().removesuffix(".") for value in await self._values(record.name, "CNAME")]
        if found == [target]:
            return [_good(record)]
        there = await self._addresses(record.name)
        if not there:
            return [_missing(record)]
        if set(there) & {*await self._addresses(target), *self._around.addresses}:
            return [finding("ok", f"{record.name} leads to this host")]
        text = f"{record.name} leads to {', '.join(found or map(str, there))}, not to this host"
        return [finding("warning", text, f"replace it: {record.zone_line()}")]

    async def _authority(self, record: DnsRecord) -> Finding:
        """RFC 8659 §3: the records nearest to the name count, its own or those of a domain above."""
        name = record.name
        for _ in range(MAX_LABELS):
            found = await self._values(name, "CAA")
            if found:
                break
            name = name.partition(".")[2]
            if not name:
                return _missing(record)
        issuers = [value for value in map(_issuer, found) if value is not None]
        wanted = _issuer(record.value)
        if wanted in issuers:
            return _good(record)
        if not issuers:
            return _missing(record)
        text = f"CAA {name} lets {', '.join(each or 'nobody' for each in issuers)} issue certificates, not {wanted}"
        return finding("error", text, f"add this record, or the next certificate is refused: {record.zone_line()}")

    # --- questions --------------------------------------------------------------------------------

    async def _texts(self, name: str) -> list[str]:
        try:
            return [value.decode("utf-8", "replace") for value in await self._resolver.txt(name)]
        except NameNotFound:
            return []

    async def _values(self, name: str, kind: str) -> list[str]:
        try:
            return await self._resolver.records(name, kind)
        except NameNotFound:
            return []

    async def _addresses(self, name: str, version: int = 0) -> list[IPAddress]:
        try:
            return await self._resolver.addresses(name, version)
        except NameNotFound:
            return []


def _service(record: DnsRecord, found: list[str]) -> Finding:
    """Priority and weight are the operator's; host and port must be ours."""
    there = [_end_of(value) for value in found]
    if record.value == NOT_OFFERED:
        if not found:
            return finding("ok", f"{_what(record)} is not there, and need not be")
        if there == [_end_of(NOT_OFFERED)]:
            return _good(record)
        text = f"{_what(record)} sends mail programs to {', '.join(found)}, and this is not offered here"
        return finding("warning", text, f"take it away, or say so: {record.zone_line()}")
    if not found:
        return _missing(record)
    if _end_of(record.value) in there:
        return _good(record)
    return finding("warning", f"{_what(record)} is {', '.join(found)}", f"replace it: {record.zone_line()}")


def _end_of(value: str) -> tuple[str, ...]:
    """Port and host of an SRV record."""
    return tuple(word.lower().removesuffix(".") for word in value.split()[2:4])


def _key(record: DnsRecord, found: Iterable[str]) -> Finding:
    """RFC 6376 §3.6.1: the key is in p, and blanks in it mean nothing."""
    wanted = _tags(record.value)
    for value in found:
        tags = _tags(value)
        if tags.get("p") == wanted["p"] and tags.get("k", "rsa") == wanted.get("k", "rsa"):
            return _good(record)
        if tags.get("p") == "":
            text = f"{_what(record)} says that the key is revoked: what is signed here is not believed"
            return finding("error", text, f"replace it: {record.zone_line()}")
    text = f"{_what(record)} holds another key: what is signed here is not believed"
    return finding("error", text, f"replace it: {record.zone_line()}")


def _dmarc(record: DnsRecord, value: str) -> Finding:
    found = parse_record(value.encode())
    if found is None or not found.is_usable:
        problems = f" ({'; '.join(found.problems)})" if found is not None else ""
        return finding(
            "error", f"{_what(record)} is {value!r}: no policy{problems}", f"replace it: {record.zone_line()}"
        )
    if found.problems:
        text = f"{_what(record)} is {value!r}: {'; '.join(found.problems)}"
        return finding("warning", text, f"mend it; posthouse would say: {record.value}")
    if not found.rua:
        text = f"{_what(record)} is {value!r}: nobody is told who sends in the domain's name"
        return finding("warning", text, f"add rua=…; posthouse would say: {record.value}")
    is_weak = found.policy is Policy.NONE
    said = ": forged letters are only reported; quarantine or reject is the next step" if is_weak else ""
    return finding("ok", f"{_what(record)} is {value!r}{said}")


def _issuer(value: str) -> str | None:
    """The domain in an issue property (RFC 8659 §4.2), "" for nobody; None for other properties."""
    words = value.split(None, 2)
    if len(words) != 3 or words[1].lower() != "issue":
        return None
    return words[2].strip().strip('"').partition(";")[0].strip().lower()


def _what(record: DnsRecord) -> str:
    return f"{record.kind} {record.name}"


def _add(record: DnsRecord) -> str:
    return f"add this record: {record.zone_line()}"


def _good(record: DnsRecord) -> Finding:
    return finding("ok", f"{_what(record)} is as it should be")


def _missing(record: DnsRecord) -> Finding:
    return finding("warning" if record.is_advice else "error", f"{_what(record)} is missing", _add(record))


def _tag(value: str) -> str:
    """What says which kind of policy a TXT record is: `v=spf1`, `v=dkim1`."""
    words = value.partition(";")[0].split()
    return words[0].lower() if words else ""


def _tags(value: str) -> dict[str, str]:
    """`a=b; c=d`, without the blanks."""
    pairs = (part.partition("=") for part in value.split(";"))
    return {name.strip().lower(): "".join(text.split()) for name, equals, text in pairs if equals}


def _squeezed(value: str) -> str:
    return "".join(value.split()).rstrip(";")
