# SPDX-License-Identifier: Apache-2.0
"""A domain as it should be, in fakes: DNS, web and mail host; tests take something away or change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posthouse.config import Listen
from posthouse.outcome import NO_ANSWER_FROM_HOST, Outcome
from posthouse.ports import ConnectFault, MxRecord, Target, WebFault, WebReply
from posthouse.services.client_settings import offer_of
from posthouse.services.dns_records import DnsRecord, Surroundings, wanted_records
from posthouse.services.domain_check import DomainCheck
from posthouse.services.findings import Finding
from posthouse.services.own_policy import Mode, own_policy
from tests.fakes import FakeClock, FakeResolver

HOST = "mail.alice.test"
DOMAIN = "alice.test"
DIGEST = bytes(range(32))
ADDRESS = "8.8.4.4"
LISTEN = Listen.model_validate(
    {
        "smtp": ["*:25"],
        "submissions": ["*:465"],
        "imaps": ["*:993"],
        "imap": ["127.0.0.1:143"],
        "pop3s": ["*:995"],
        "https": ["*:443"],
    }
)


class Keys:
    """DKIM keys of the domain alone."""

    async def records(self, domain: str) -> list[tuple[str, str]]:
        if domain != DOMAIN:
            return []
        return [(f"s._domainkey.{domain}", "v=DKIM1; k=rsa; p=" + "A" * 300)]


@dataclass
class Web:
    """`pages`: by address; an Exception is raised."""

    pages: dict[str, WebReply | WebFault] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        self.asked.append(url)
        found = self.pages.get(url, WebFault(f"{url}: no connection"))
        if isinstance(found, WebFault):
            raise found
        return found

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        raise AssertionError("a check changes nothing")


class MailHost:
    """`refuses`: with which kinds of TLS there is no session."""

    def __init__(self) -> None:
        self.refuses: set[str] = set()
        self.asked: list[Target] = []
        self.closed = 0

    async def connect(self, target: Target) -> Any:
        self.asked.append(target)
        if target.tls in self.refuses:
            raise ConnectFault(Outcome(NO_ANSWER_FROM_HOST, f"not with {target.tls}", target.host, target.address))
        return self

    async def close(self) -> None:
        self.closed += 1


def around(mode: Mode = "testing", **changes: Any) -> Surroundings:
    facts: dict[str, Any] = {
        "hostname": HOST,
        "offer": offer_of(HOST, LISTEN),
        "policy": own_policy(HOST, mode, 86400, []),
        "key_digests": (DIGEST,),
    }
    return Surroundings(**{**facts, **changes})


class World:
    """Everything as `posthouse dns` says."""

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self.around = surroundings or around()
        self.dns = FakeResolver()
        self.web = Web()
        self.mail_host = MailHost()

    async def build(self) -> list[DnsRecord]:
        keys: Any = Keys()
        records = await wanted_records(DOMAIN, keys, self.around)
        self.dns.host(HOST, ADDRESS)
        for record in records:
            self.publish(record)
        self.dns.record(DOMAIN, "SOA", "ns. root. 1 1 1 1 1")
        self.web.pages[f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt"] = WebReply(
            200, {"content-type": "text/plain; charset=us-ascii"}, self.around.policy.text.encode()
        )
        for page in (
            "autoconfig.alice.test/mail/config-v1.1.xml",
            "autodiscover.alice.test/autodiscover/autodiscover.xml",
        ):
            self.web.pages[f"https://{page}"] = WebReply(200, {"content-type": "text/xml"}, b"<x/>")
        return records

    def publish(self, record: DnsRecord) -> None:
        match record.kind:
            case "MX":
                preference, host = record.value.split()
                self.dns.mx_records.setdefault(record.name, []).append(MxRecord(int(preference), host))
            case "TXT":
                self.dns.text_records.setdefault(record.name, []).append(record.value.encode())
            case "A" | "AAAA":
                self.dns.host(record.name, record.value)
            case "CNAME":
                self.dns.record(record.name, "CNAME", f"{record.value}.")
                self.dns.address_records[record.name] = self.dns.address_records[HOST]
            case _:
                there = self.dns.other_records.setdefault(record.name, {})
                there.setdefault(record.kind, []).append(record.value)

    def sign(self) -> None:
        """The zone has keys, and its parent knows."""
        self.dns.record(DOMAIN, "DNSKEY", "257 3 13 AAAA")
        self.dns.record(DOMAIN, "DS", "1 13 2 00")

    async def findings(self, records: list[DnsRecord]) -> list[Finding]:
        mail_host: Any = self.mail_host
        check = DomainCheck(self.dns, self.web, mail_host, FakeClock(), self.around)
        found = await check.findings(DOMAIN, records)
        for each in found:
            assert each.level in ("ok", "warning", "error")
            assert each.remedy or each.level == "ok", each
        return found

    async def wrong(self, records: list[DnsRecord]) -> list[tuple[str, str]]:
        """Level and text of what is not ok."""
        return [(each.level, each.text) for each in await self.findings(records) if each.level != "ok"]
