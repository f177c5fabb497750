# SPDX-License-Identifier: Apache-2.0
"""The DNS records that a domain needs so that its mail arrives and is believed, and their zone-file form."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.services.keys import DomainKeys

TXT_STRING = 255  # octets of one character-string (RFC 1035 §3.3); longer values are several of them


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`name` is absolute without the final dot. `why` is one line for people; `is_advice`: mail works without it."""

    name: str
    kind: str
    value: str
    why: str
    is_advice: bool = False

    def zone_line(self) -> str:
        value = f"{self.value}." if self.kind in ("MX", "SRV") else self.value
        if self.kind == "TXT":
            pieces = [self.value[start : start + TXT_STRING] for start in range(0, len(self.value), TXT_STRING)]
            value = " ".join(f'"{piece}"' for piece in pieces)
        return f"{self.name}. 3600 IN {self.kind} {value}"


async def wanted_records(domain: str, hostname: str, keys: DomainKeys, *, listens: frozenset[str]) -> list[DnsRecord]:
    """For one domain served here. `listens`: the keys of [listen] that are on, for the SRV records."""
    records = [
        DnsRecord(domain, "MX", f"10 {hostname}", "other servers bring mail for the domain here (RFC 5321 §5.1)"),
        DnsRecord(domain, "TXT", "v=spf1 mx -all", "only this server sends for the domain (RFC 7208)"),
    ]
    if hostname != domain:
        why = "reports about mail (bounces) leave in this host's own name (RFC 7208 §2.4)"
        records.append(DnsRecord(hostname, "TXT", "v=spf1 a -all", why))
    for name, value in await keys.records(domain):
        records.append(DnsRecord(name, "TXT", value, "the public key for the signatures (DKIM, RFC 6376)"))
    policy = f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}"
    records.append(
        DnsRecord(f"_dmarc.{domain}", "TXT", policy, "what to do with mail that is not signed (DMARC)", is_advice=True)
    )
    for service, label, port in (("submissions", "_submissions", 465), ("submission", "_submission", 587)):
        if service in listens:
            records.append(_service(domain, hostname, label, port))
    for service, label, port in (
        ("imaps", "_imaps", 993),
        ("imap", "_imap", 143),
        ("pop3s", "_pop3s", 995),
        ("pop3", "_pop3", 110),
    ):
        if service in listens:
            records.append(_service(domain, hostname, label, port))
    return records


def _service(domain: str, hostname: str, label: str, port: int) -> DnsRecord:
    why = "mail programs find their settings (RFC 6186, RFC 8314)"
    return DnsRecord(f"{label}._tcp.{domain}", "SRV", f"0 1 {port} {hostname}", why, is_advice=True)


def zone_text(domain: str, hostname: str, records: list[DnsRecord]) -> str:
    """A fragment of a zone file with the reasons as comments."""
    lines = [
        f"; DNS records for {domain}, served by {hostname}",
        f"; {hostname} itself needs an A record (and AAAA, if it has IPv6), and its address a PTR back to that name.",
    ]
    for record in records:
        lines += [f"; {record.why}{' - advice' if record.is_advice else ''}", record.zone_line()]
    return "\n".join(lines) + "\n"
