# SPDX-License-Identifier: Apache-2.0
"""SPF with any records: a result of RFC 7208 §2.6, few questions, and nothing but printable words.

The input is the texts of records, `<next>` between them: of the sender's domain, of all its subdomains, of any other
name. Before a `<from>` stands the sender.
"""

from __future__ import annotations

import ipaddress

from fuzz.choices import Choices
from posthouse.mailauth.spf import MAX_EXPLANATION, MAX_MX, MAX_TERMS, SpfResult, check_host
from posthouse.mailauth.spf_macro import Facts
from posthouse.ports import IPAddress, MxRecord, NameNotFound, ResolverFault

DICTIONARY = "spf.dict"
DOMAIN = "alice.test"
# Per term one question and MAX_MX about its hosts, or about the names of the address, once; the first record and exp.
MOST_QUESTIONS = 2 + MAX_TERMS * (1 + MAX_MX) + 1 + 10


class _Dns:
    def __init__(self, texts: list[bytes], choices: Choices) -> None:
        self._texts = texts
        self._hosts = [MxRecord(at, f"mx{at}.{DOMAIN}") for at in range(choices.number(13))]
        self._is_found = choices.flag()
        self.questions = 0

    def _look(self, name: str) -> None:
        self.questions += 1
        if name.startswith("gone"):
            raise NameNotFound(name)
        if name.startswith("ill"):
            raise ResolverFault(name)

    async def txt(self, name: str) -> list[bytes]:
        self._look(name)
        at = 0 if name == DOMAIN else 1 if name.endswith(f".{DOMAIN}") else 2
        return self._texts[at : at + 1]

    async def mx(self, domain: str) -> list[MxRecord]:
        self._look(domain)
        return self._hosts

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        self._look(host)
        return [ipaddress.ip_address("192.0.2.1" if version == 4 else "2001:db8::1")] if self._is_found else []

    async def names(self, address: IPAddress) -> list[str]:
        self._look("")
        return [f"h{at}.{DOMAIN}" for at in range(20)]

    async def records(self, name: str, kind: str) -> list[str]:
        raise AssertionError("not SPF's business")


def target(data: bytes) -> None:
    choices = Choices(data)
    address = ipaddress.ip_address(("192.0.2.1", "192.0.2.9", "2001:db8::1", "2001:db8::9")[choices.number(4)])
    sender, _, records = choices.rest.rpartition(b"<from>")
    dns = _Dns(records.split(b"<next>"), choices)
    facts = Facts(address, f"{sender.decode('utf-8', 'replace')}@{DOMAIN}", "mx.alice.test", "mx.bob.test", 1e9)
    checking = check_host(dns, facts, DOMAIN, "mailfrom")
    try:
        checking.send(None)
    except StopIteration as stop:
        verdict = stop.value
    else:
        raise AssertionError("it waits for something that is no question")
    assert dns.questions <= MOST_QUESTIONS, "it asks too much"
    assert verdict.terms <= MAX_TERMS + 1
    assert verdict.reason
    for text in (verdict.reason, verdict.explanation):
        assert text.isascii(), "words that are not ASCII"
        assert not text or text.isprintable(), "words that cannot be printed"
    assert len(verdict.explanation) <= MAX_EXPLANATION
    assert verdict.result is SpfResult.FAIL or not verdict.explanation
    if verdict.result in (SpfResult.PASS, SpfResult.FAIL, SpfResult.SOFTFAIL):
        assert verdict.matched, "a result of nothing"
