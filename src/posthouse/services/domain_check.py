# SPDX-License-Identifier: Apache-2.0
"""`posthouse check DOMAIN`: what the world sees of a domain, beside what it should see.

Every record of `posthouse dns`, and what records alone do not tell: does SPF let this host pass, does the mail host
answer with a good certificate, is the policy there, would a TLSA record be believed. Looks and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from posthouse.mailauth.spf import SpfResult, SpfVerdict, check_hello, check_mail_from
from posthouse.ports import (
    Clock,
    ConnectFault,
    IPAddress,
    MailTransport,
    NameNotFound,
    Resolver,
    ResolverFault,
    Target,
    WebClient,
    WebFault,
)
from posthouse.services.client_settings import HTTPS_PORT
from posthouse.services.dns_records import DnsRecord, Surroundings
from posthouse.services.findings import Finding
from posthouse.services.own_policy import WELL_KNOWN_PATH, policy_host
from posthouse.services.record_check import MAX_LABELS, NO_ANSWER, QUESTION_SECONDS, TRY_AGAIN, RecordCheck, finding

T = TypeVar("T")

AT_ONCE = 8  # questions under way: a resolver is shared with the mail that is coming and going
WEB_SECONDS = 20.0  # for one page; RFC 8461 §3.3 gives senders a minute, but people wait here
SMTP_SECONDS = 30.0  # for the greeting of the mail host and TLS
MAX_PAGE = 64 * 1024  # octets (RFC 8461 §3.3)
MAX_ADDRESSES = 4  # of the mail host, that are tried
MAIL_PORT = 25


class DomainCheck:
    def __init__(
        self, resolver: Resolver, web: WebClient, transport: MailTransport, clock: Clock, around: Surroundings
    ) -> None:
        self._resolver = resolver
        self._web = web
        self._transport = transport
        self._clock = clock
        self._around = around
        self._records = RecordCheck(resolver, around)
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def findings(self, domain: str, records: Sequence[DnsRecord]) -> list[Finding]:
        """In the order of the records; what else there is behind them."""
        addresses, silence = await asyncio.gather(self._host_addresses(), self._silence(domain))
        if addresses is None and silence:  # one line instead of one for each record, and people need not wait for them
            return [finding("warning", f"DNS does not answer ({silence}): no record was compared", TRY_AGAIN)]
        addresses = addresses or []
        parts = await asyncio.gather(
            *(self._slot(self._records.check(record)) for record in records),
            self._slot(self._sender(domain, addresses)),
            self._slot(self._host_alias()),
            self._slot(self._tlsa(records)),
            *(self._slot(self._mail_host(address)) for address in addresses[:MAX_ADDRESSES]),
            self._slot(self._policy(domain)),
            self._slot(self._autoconfig(domain)),
        )
        return [each for part in parts for each in part]

    async def _slot(self, work: Awaitable[T]) -> T:
        async with self._slots:
            return await work

    async def _host_addresses(self) -> list[IPAddress] | None:
        """As the world has them; None: DNS does not answer. It is told where the host itself is checked."""
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return await self._resolver.addresses(self._around.hostname)
        except NameNotFound:
            return []
        except (ResolverFault, TimeoutError):
            return None

    async def _silence(self, domain: str) -> str:
        """Why DNS does not answer about the domain; "" if it does."""
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                await self._values(domain, "SOA")
        except (ResolverFault, TimeoutError) as fault:
            return str(fault) or NO_ANSWER
        return ""

    # --- SPF ----------------------------------------------------------------------------------------

    async def _sender(self, domain: str, addresses: Sequence[IPAddress]) -> list[Finding]:
        """Whether receivers would let mail of this host pass, for the domain and for the host's own name."""
        if self._around.smart_host:
            return []  # it is another host whose address is asked for
        found: list[Finding] = []
        hostname, now = self._around.hostname, self._clock.wall()
        for address in addresses:
            sender = f"postmaster@{domain}"
            asked = check_mail_from(self._resolver, address, sender, hostname, receiver=hostname, now=now)
            found.append(_spf(domain, address, await asked))
            if hostname != domain:
                hello = await check_hello(self._resolver, address, hostname, receiver=hostname, now=now)
                found.append(_spf(hostname, address, hello))
        return found

    # --- the mail host ------------------------------------------------------------------------------

    async def _host_alias(self) -> list[Finding]:
        """RFC 2181 §10.3: an MX record must not lead to an alias."""
        name = self._around.hostname
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                found = await self._values(name, "CNAME")
        except (ResolverFault, TimeoutError) as fault:
            return [finding("warning", f"CNAME {name}: DNS does not answer ({str(fault) or NO_ANSWER})", TRY_AGAIN)]
        if not found:
            return []
        text = f"{name} is an alias of {found[0]}, and MX records must not lead to an alias"
        return [finding("error", text, f"give {name} A and AAAA records of its own instead of the CNAME")]

    async def _mail_host(self, address: IPAddress) -> list[Finding]:
        """As another server meets it, as far as that can be seen from this machine."""
        name = self._around.hostname
        where = f"{name} [{address}] port {MAIL_PORT}"
        fault = await self._greeting(address, "verify")
        if fault is None:
            return [Finding("smtp", "ok", f"{where} answers, with a certificate that others trust")]
        if await self._greeting(address, "opportunistic") is not None:
            text = f"{where} does not answer as seen from this machine: {fault}"
            remedy = "look from outside; open the port in firewall and router, and serve it (listen.smtp)"
            return [Finding("smtp", "warning", text, remedy)]
        is_enforced = self._around.publishes_policy and self._around.policy.mode == "enforce"
        text = f"{where} answers, but not with a certificate that others trust: {fault}"
        remedy = f"get a certificate for {name} from an authority that all know; MTA-STS needs it"
        return [Finding("smtp", "error" if is_enforced else "warning", text, remedy)]

    async def _greeting(self, address: IPAddress, tls: str) -> str | None:
        """None: there is a session. Otherwise why not."""
        name = self._around.hostname
        try:
            async with asyncio.timeout(SMTP_SECONDS):
                connection = await self._transport.connect(Target(name, str(address), MAIL_PORT, tls, helo=name))
                await connection.close()
        except ConnectFault as fault:
            return fault.outcome.diagnostic
        except TimeoutError:
            return f"no greeting within {SMTP_SECONDS:.0f} seconds"
        return None

    # --- DANE -----------------------------------------------------------------------------------------

    async def _tlsa(self, records: Sequence[DnsRecord]) -> list[Finding]:
        """One record must fit the present key, or all who look at them stop to deliver (RFC 7672 §2.2)."""
        wanted = [record for record in records if record.kind == "TLSA"]
        if not wanted:
            return []
        name = wanted[0].name
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                found = [" ".join(value.lower().split()) for value in await self._values(name, "TLSA")]
                zone = await self._signed_zone(self._around.hostname)
        except (ResolverFault, TimeoutError) as fault:
            return [finding("warning", f"TLSA {name}: DNS does not answer ({str(fault) or NO_ANSWER})", TRY_AGAIN)]
        if not found:
            if zone is None:
                return [
                    finding("ok", f"TLSA {name} is not there; its zone is not signed (DNSSEC), so it would not count")
                ]
            return [finding("warning", f"TLSA {name} is missing", f"add this record: {wanted[0].zone_line()}")]
        if wanted[0].value not in found:
            usable = [value for value in found if value[:1] in ("2", "3")]
            if zone is None or any(value.startswith("2 ") for value in usable) or not usable:
                text = f"TLSA {name} does not name the key of the present certificate"
                return [finding("warning", text, f"add this record: {wanted[0].zone_line()}")]
            text = f"TLSA {name} does not fit the present certificate: servers that use DANE do not deliver"
            return [finding("error", text, f"add this record now: {wanted[0].zone_line()}")]
        findings = [
            finding("warning", f"TLSA {name} lacks the next key", f"add this record: {record.zone_line()}")
            for record in wanted[1:]
            if record.value not in found
        ]
        if zone is None:
            text = f"TLSA {name} is as it should be; its zone is not signed (DNSSEC), so that nobody looks at it"
            return [*findings, finding("ok", text)]
        return findings or [finding("ok", f"TLSA {name} is as it should be, in the signed zone {zone}")]

    async def _signed_zone(self, name: str) -> str | None:
        """The zone in which a name lies, when it has keys and its parent says so (RFC 4035 §5.2); None: not signed."""
        for _ in range(MAX_LABELS):
            if await self._values(name, "SOA"):
                keys, delegation = await self._values(name, "DNSKEY"), await self._values(name, "DS")
                return name if keys and delegation else None
            name = name.partition(".")[2]
            if not name:
                break
        return None

    async def _values(self, name: str, kind: str) -> list[str]:
        try:
            return await self._resolver.records(name, kind)
        except NameNotFound:
            return []

    # --- the web --------------------------------------------------------------------------------------

    async def _policy(self, domain: str) -> list[Finding]:
        policy = self._around.policy
        if not policy.is_published:
            return []
        level = "error" if policy.mode == "enforce" else "warning"
        if self._around.offer.https_port is None:
            if policy.mode != "enforce":
                return []
            return [Finding("web", level, "the MTA-STS policy is not served", "set listen.https, or mta_sts.mode")]
        url = f"https://{policy_host(domain)}{WELL_KNOWN_PATH}"
        if policy.mode != "enforce" and not await self._is_there(policy_host(domain)):
            return []  # told beside the record that is missing
        try:
            reply = await self._web.get(url, limit=MAX_PAGE, seconds=WEB_SECONDS)
        except WebFault as fault:
            remedy = (
                f"{policy_host(domain)} must lead here, port {HTTPS_PORT} be open, and a certificate be for that name"
            )
            return [Finding("web", level, f"{url} cannot be fetched: {fault}", remedy)]
        media = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if reply.status != 200 or media != "text/plain":
            remedy = "another web server answers there: let it pass these requests on (web.behind_proxy)"
            return [Finding("web", level, f"{url} answers {reply.status} {media}, and no policy", remedy)]
        if reply.body.decode("utf-8", "replace").splitlines() != policy.text.splitlines():
            remedy = "serve it from here, or set [mta_sts] to what is served there"
            return [Finding("web", level, f"{url} is another policy than [mta_sts] says", remedy)]
        return [Finding("web", "ok", f"{url} is the policy, mode {policy.mode}")]

    async def _autoconfig(self, domain: str) -> list[Finding]:
        around = self._around
        if around.offer.https_port is None or not around.offer.is_usable:
            return []
        found = []
        for label, path in (
            ("autoconfig", "/mail/config-v1.1.xml"),
            ("autodiscover", "/autodiscover/autodiscover.xml"),
        ):
            url = f"https://{label}.{domain}{path}"
            if not await self._is_there(f"{label}.{domain}"):
                continue  # told beside the record that is missing
            try:
                reply = await self._web.get(url, limit=MAX_PAGE, seconds=WEB_SECONDS)
                why = "" if reply.status == 200 else f"the answer is {reply.status}"
            except WebFault as fault:
                why = str(fault)
            if why:
                remedy = f"{label}.{domain} must lead here, and a certificate be for that name"
                found.append(Finding("web", "warning", f"{url} cannot be fetched: {why}", remedy))
            else:
                found.append(Finding("web", "ok", f"{url} gives mail programs their settings"))
        return found

    async def _is_there(self, name: str) -> bool:
        """Whether it is worth the try."""
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return bool(await self._resolver.addresses(name))
        except NameNotFound:
            return False
        except (ResolverFault, TimeoutError):
            return True  # the try tells why


def _spf(name: str, address: IPAddress, verdict: SpfVerdict) -> Finding:
    said = f"SPF of {name} for this host [{address}]: {verdict.result}"
    match verdict.result:
        case SpfResult.PASS:
            return finding("ok", said)
        case SpfResult.TEMPERROR:
            return finding("warning", f"{said} ({verdict.reason})", TRY_AGAIN)
        case SpfResult.NONE:
            # Told beside the record, with what is to be added.
            return finding("warning", said, "add the record that `posthouse dns` prints")
        case _:
            why = f" ({verdict.reason})" if verdict.reason else ""
            remedy = f"let the record name this host, for instance with ip{address.version}:{address}"
            return finding("error", f"{said}{why}: others refuse its mail or doubt it", remedy)
