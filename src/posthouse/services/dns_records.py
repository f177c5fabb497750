# SPDX-License-Identifier: Apache-2.0
"""The DNS records that a domain needs so that its mail arrives and is believed, and their zone-file form."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from posthouse.ports import IPAddress
from posthouse.services.client_settings import SERVICES, MailServer, Offer, Protocol
from posthouse.services.keys import DomainKeys
from posthouse.services.own_policy import OwnPolicy, policy_host

TXT_STRING = 255  # octets of one character-string (RFC 1035 §3.3); longer values are several of them
TTL = 3600  # seconds: a mistake is over after an hour
# RFC 6186 §3.4: IMAP is to be preferred where both are offered.
PRIORITIES = {Protocol.IMAP: 0, Protocol.POP3: 10, Protocol.SMTP: 0}
NOT_OFFERED = "0 0 0 ."  # RFC 6186 §3.4: the service is decidedly not available


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`name` is absolute without the final dot; so are names in `value` but for the root. `why` is one line for people.

    `is_advice`: mail works without it. `is_foreign`: it belongs into a zone of the address's provider.
    """

    name: str
    kind: str
    value: str
    why: str
    is_advice: bool = False
    is_foreign: bool = False

    def zone_line(self) -> str:
        """As in a zone file; a foreign one is a comment."""
        value = self.value
        if self.kind in ("MX", "SRV", "CNAME", "PTR") and not value.endswith("."):
            value = f"{value}."
        if self.kind == "TXT":
            pieces = [value[start : start + TXT_STRING] for start in range(0, len(value), TXT_STRING)]
            value = " ".join(f'"{_quoted(piece)}"' for piece in pieces)
        return f"{'; ' if self.is_foreign else ''}{self.name}. {TTL} IN {self.kind} {value}"


@dataclass(frozen=True, slots=True)
class Senders:
    """`other`: what the domain's SPF lets send beside this host, "" for nothing. `are_judged`: its DMARC policy already
    asks for more than reports, so that its owner knows that theirs passes. `is_known` False: DNS has not said all of
    it, and the policy that stands there may have a reason."""

    other: str = ""
    are_judged: bool = False
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the records speak of.

    `key_digests`: SHA-256 of the public keys of this host's certificates, the present one first, then those to come.
    `addresses`: of this host, as far as it can see them. `authorities`: who may issue certificates (RFC 8659 §4.2), ()
    where any may. `smart_host`: through which all mail leaves, "" without. `report_address`: where others' reports go,
    "" for postmaster at each domain. `senders`: who else sends for the domain that is asked about.
    """

    hostname: str
    offer: Offer
    policy: OwnPolicy
    key_digests: tuple[bytes, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    authorities: tuple[str, ...] = ()
    smart_host: str = ""
    report_address: str = ""
    senders: Senders = Senders()

    @property
    def publishes_policy(self) -> bool:
        """A policy that cannot be fetched is none, so it is not announced either."""
        return self.policy.is_published and self.offer.https_port is not None

    def reports_for(self, domain: str) -> str:
        return self.report_address or f"postmaster@{domain}"


async def wanted_records(domain: str, keys: DomainKeys, around: Surroundings) -> list[DnsRecord]:
    """For one domain served here, and for the host itself."""
    hostname = around.hostname
    published = await keys.records(domain)
    if hostname != domain:
        published += await keys.records(hostname)
    return [
        *_addresses(around),
        DnsRecord(domain, "MX", f"10 {hostname}", "other servers bring mail for the domain here (RFC 5321 §5.1)"),
        *_senders(domain, around),
        *(
            DnsRecord(name, "TXT", value, "the public key for the signatures (DKIM, RFC 6376)")
            for name, value in published
        ),
        *_policies(domain, around),
        *_tlsa(around),
        *_authorities(around),
        *_services(domain, around.offer),
        *_web(domain, around),
    ]


def _addresses(around: Surroundings) -> Iterable[DnsRecord]:
    for address in around.addresses:
        kind = "A" if address.version == 4 else "AAAA"
        yield DnsRecord(around.hostname, kind, str(address), "where this host is")
    for address in around.addresses:
        why = "the address leads back to the name (RFC 1912 §2.1); its provider sets this one"
        yield DnsRecord(address.reverse_pointer, "PTR", around.hostname, why, is_foreign=True)


def _senders(domain: str, around: Surroundings) -> Iterable[DnsRecord]:
    if around.hostname == domain:
        pass  # one record for both: with another one beside it, from `dns` of another domain, none would count
    elif around.smart_host:
        why = f"mail leaves through {around.smart_host}: ask its operator for the right terms (RFC 7208)"
        yield DnsRecord(domain, "TXT", f"v=spf1 mx {_mechanism(around.smart_host)} ~all", why)
    else:
        yield DnsRecord(domain, "TXT", "v=spf1 mx -all", "only this server sends for the domain (RFC 7208)")
    why = "reports about mail (bounces) leave in this host's own name (RFC 7208 §2.4)"
    own = f"v=spf1 a {_mechanism(around.smart_host)} ~all" if around.smart_host else "v=spf1 a -all"
    yield DnsRecord(around.hostname, "TXT", own, why)


def _mechanism(host: str) -> str:
    try:
        return f"ip{ipaddress.ip_address(host).version}:{host}"
    except ValueError:
        return f"a:{host}"


def policy_name(domain: str) -> str:
    """Where its DMARC record is (RFC 9989 §4.5)."""
    return f"_dmarc.{domain}"


def _policies(domain: str, around: Surroundings) -> Iterable[DnsRecord]:
    reports = around.reports_for(domain)
    why = "what to do with mail that is not signed (DMARC, RFC 9989)"
    if not around.senders.other:
        # Strict for SPF: a server of the same organization that passes a forged letter on vouches for none of ours.
        value = f"v=DMARC1; p=quarantine; aspf=s; rua=mailto:{reports}"
        if not around.senders.is_known:
            why += "; DNS does not say now whether others send for the domain: p=none first if they do"
    elif around.senders.are_judged:
        value = f"v=DMARC1; p=quarantine; rua=mailto:{reports}"
    else:
        # Their mail may pass by nothing yet, and nobody here would know before it is missed.
        value = f"v=DMARC1; p=none; rua=mailto:{reports}"
        why = (
            f"tell of mail that is not signed (DMARC, RFC 9989): SPF names other senders ({around.senders.other});"
            " p=quarantine when reports say that theirs passes"
        )
    yield DnsRecord(policy_name(domain), "TXT", value, why, is_advice=True)
    elsewhere = reports.rpartition("@")[2]
    if elsewhere != domain:
        why = f"{elsewhere} takes reports about {domain} (RFC 9990 §4)"
        yield DnsRecord(f"{domain}._report._dmarc.{elsewhere}", "TXT", "v=DMARC1", why, is_advice=True)
    if around.publishes_policy:
        why = "a policy for TLS is published, and which (MTA-STS, RFC 8461 §3.1)"
        yield DnsRecord(f"_mta-sts.{domain}", "TXT", around.policy.record, why, is_advice=True)
        yield from _alias(policy_host(domain), around, "where the policy is fetched (RFC 8461 §3.2)")
    why = "where others report trouble with TLS (TLSRPT, RFC 8460 §3)"
    yield DnsRecord(f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua=mailto:{reports}", why, is_advice=True)


def _tlsa(around: Surroundings) -> Iterable[DnsRecord]:
    why = "the key of this host's certificate (DANE, RFC 7672 §3.1); it counts in zones signed with DNSSEC only"
    for number, digest in enumerate(dict.fromkeys(around.key_digests)):
        said = why if number == 0 else "the next key, to be here before it is used (RFC 7671 §8.1)"
        yield DnsRecord(f"_25._tcp.{around.hostname}", "TLSA", f"3 1 1 {digest.hex()}", said, is_advice=True)


def _authorities(around: Surroundings) -> Iterable[DnsRecord]:
    """For this host alone, whose record also counts for its aliases (RFC 8659 §3): at the domain they would bind its
    other servers too."""
    for authority in around.authorities:
        why = "nobody else may issue certificates for this host (CAA, RFC 8659)"
        yield DnsRecord(around.hostname, "CAA", f'0 issue "{authority}"', why, is_advice=True)


def _services(domain: str, offer: Offer) -> Iterable[DnsRecord]:
    on = {server.service: server for server in offer.servers}
    if not on:
        return
    for service, _, _ in SERVICES:
        name, server = f"_{service}._tcp.{domain}", on.get(service)
        if server is not None:
            why = "mail programs find their settings (RFC 6186, RFC 8314)"
            yield DnsRecord(name, "SRV", _srv(server), why, is_advice=True)
        else:
            yield DnsRecord(name, "SRV", NOT_OFFERED, "not offered here (RFC 6186 §3.4)", is_advice=True)


def _srv(server: MailServer) -> str:
    return f"{PRIORITIES[server.protocol]} 1 {server.port} {server.host}"


def _web(domain: str, around: Surroundings) -> Iterable[DnsRecord]:
    port = around.offer.https_port
    if port is None or not around.offer.is_usable:
        return
    yield from _alias(f"autoconfig.{domain}", around, "Thunderbird and others find their settings")
    yield from _alias(f"autodiscover.{domain}", around, "Outlook finds its settings")
    why = "the same, where Outlook does not find that name"
    yield DnsRecord(f"_autodiscover._tcp.{domain}", "SRV", f"0 1 {port} {around.hostname}", why, is_advice=True)


def _alias(name: str, around: Surroundings, why: str) -> Iterable[DnsRecord]:
    if name != around.hostname:
        yield DnsRecord(name, "CNAME", around.hostname, why, is_advice=True)


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _quoted(text: str) -> str:
    """RFC 1035 §5.1."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def zone_text(domain: str, around: Surroundings, records: Sequence[DnsRecord]) -> str:
    """A fragment of a zone file with the reasons as comments; what belongs into other zones stands at the end."""
    hostname = around.hostname
    lines = [f"; DNS records for {domain}, served by {hostname}"]
    if not around.addresses:
        lines.append(f"; {hostname} itself needs an A record (AAAA for IPv6), and its address a PTR back to that name.")
    own = [record for record in records if _is_within(record.name, domain)]
    lines += _lines(own)
    others = [record for record in records if not _is_within(record.name, domain)]
    if others:
        lines += ["", "; In other zones:", *_lines(others)]
    return "\n".join(lines) + "\n"


def _lines(records: Iterable[DnsRecord]) -> list[str]:
    lines: list[str] = []
    last = ""
    for record in records:
        said = f"; {record.why}{' - advice' if record.is_advice else ''}"
        if said != last:
            lines.append(said)
        last = said
        lines.append(record.zone_line())
    return lines
