# SPDX-License-Identifier: Apache-2.0
"""DMARC with any records and any From: few questions, no pass without cause, no policy without a fail.

The input is a From field's value, `<next>`, and then records: of each author's domain, and of everything above.
"""

from __future__ import annotations

from dataclasses import dataclass

from fuzz.choices import Choices
from posthouse.mail.header import scan_header
from posthouse.mailauth.author import MAX_AUTHORS, authors_of
from posthouse.mailauth.dmarc import DmarcResult, Policy, judge_authors
from posthouse.mailauth.dmarc_record import MAX_URIS
from posthouse.mailauth.organization import MAX_QUERIES
from posthouse.mailauth.spf_record import SpfResult
from posthouse.ports import IPAddress, MxRecord, NameNotFound, ResolverFault

DICTIONARY = "dmarc.dict"
# Of one author: the walks from its domain, from SPF's and from two of DKIM, and whether it exists.
MOST_QUESTIONS = 4 * MAX_QUERIES + 1


@dataclass(frozen=True, slots=True)
class _Identifier:
    domain: str
    result: SpfResult


class _Dns:
    def __init__(self, authors: tuple[str, ...], texts: list[bytes]) -> None:
        self._authors = authors
        self._texts = texts
        self.questions = 0

    async def txt(self, name: str) -> list[bytes]:
        self.questions += 1
        if "ill" in name:
            raise ResolverFault(name)
        domain = name.removeprefix("_dmarc.")
        found = self._texts[:1] if domain in self._authors else self._texts[1:]
        if not found:
            raise NameNotFound(name)
        return found

    async def mx(self, domain: str) -> list[MxRecord]:
        raise AssertionError("not DMARC's business")

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        raise AssertionError("not DMARC's business")

    async def names(self, address: IPAddress) -> list[str]:
        raise AssertionError("not DMARC's business")

    async def records(self, name: str, kind: str) -> list[str]:
        raise AssertionError("not DMARC's business")


def target(data: bytes) -> None:
    choices = Choices(data)
    results = [list(SpfResult)[choices.number(len(SpfResult))] for _ in range(3)]
    shape = choices.number(4)
    value, *texts = choices.rest.split(b"<next>")
    authors = authors_of(scan_header(b"From: " + value.replace(b"\r\n\r\n", b"") + b"\r\n\r\n"))
    assert len(authors.domains) <= MAX_AUTHORS
    assert all(domain.isascii() and domain == domain.lower() for domain in authors.domains)
    assert authors.domains or authors.problem
    author = authors.domains[0] if authors.domains else "alice.test"
    domain = (author, f"a.{author}", author.partition(".")[2], "other.test")[shape]
    spf, *dkim = (
        _Identifier(one, result) for one, result in zip((domain, f"b.{domain}", author), results, strict=True)
    )
    dns = _Dns(authors.domains, texts)
    checking = judge_authors(dns, authors, spf, dkim)
    try:
        checking.send(None)
    except StopIteration as stop:
        verdicts = stop.value
    else:
        raise AssertionError("it waits for something that is no question")
    assert dns.questions <= MOST_QUESTIONS * max(1, len(authors.domains)), "it asks too much"
    for verdict in verdicts:
        assert verdict.result is DmarcResult.PASS or verdict.reason
        assert verdict.policy is Policy.NONE or verdict.result is DmarcResult.FAIL, "a policy without a fail"
        assert verdict.policy.severity <= verdict.asked_policy.severity
        if verdict.result is DmarcResult.PASS:
            assert SpfResult.PASS in results, "a pass without cause"
            assert not authors.problem
        if verdict.record is not None:
            assert len(verdict.record.rua) <= MAX_URIS
