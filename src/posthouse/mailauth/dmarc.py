# SPDX-License-Identifier: Apache-2.0
"""Is a letter from whom it says? DMARC (RFC 9989) over the Resolver port, on the results of SPF and DKIM.

Invariant: only an authenticated domain that is aligned with the author's makes a pass, and only the absence of one,
known for certain, makes a fail. What is then done with the letter is for the services to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from posthouse.mail.address import AddressError, Domain
from posthouse.mailauth.author import Authors
from posthouse.mailauth.dmarc_record import DmarcRecord, Policy
from posthouse.mailauth.organization import Published, TreeWalk
from posthouse.mailauth.spf_record import SpfResult
from posthouse.ports import Resolver, ResolverFault

__all__ = ["MAX_SECONDS", "DmarcResult", "DmarcVerdict", "Policy", "check_dmarc", "judge_authors"]

MAX_SECONDS = 20.0  # as SPF's: dead servers for several domains would hold a letter for minutes


class DmarcResult(StrEnum):
    """RFC 9989 §9.2, from the best to the worst for one who judges several Author Domains."""

    PASS = "pass"  # noqa: S105 - the result's name
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"
    FAIL = "fail"


class SpfOutcome(Protocol):
    """An SpfVerdict of the MAIL FROM identity: DMARC knows no other (RFC 9989 §3.2.4)."""

    @property
    def result(self) -> SpfResult: ...

    @property
    def domain(self) -> str: ...


class DkimOutcome(Protocol):
    """One signature: its d= and whether it is good."""

    @property
    def result(self) -> StrEnum: ...

    @property
    def domain(self) -> str: ...


@dataclass(frozen=True, slots=True)
class DmarcVerdict:
    """What was found about one Author Domain; enough for Authentication-Results, the trace and aggregate reports.

    `policy_domain` and `record` are where the policy was found, "" and None without one; `organization` is the author's
    Organizational Domain where it had to be known. `policy` is what the owner asks for on a fail, test mode and
    subdomain policies worked in; NONE for every other result. `asked_policy` is the same before test mode.
    `dkim_aligned` are the aligned domains among the good signatures. `problems` are for the owner's reports.
    """

    result: DmarcResult
    author: str
    reason: str = ""
    policy_domain: str = ""
    record: DmarcRecord | None = None
    organization: str = ""
    spf_aligned: bool = False
    dkim_aligned: tuple[str, ...] = ()
    policy: Policy = Policy.NONE
    asked_policy: Policy = Policy.NONE
    problems: tuple[str, ...] = ()


async def check_dmarc(
    resolver: Resolver, authors: Authors, spf: SpfOutcome | None, dkim: Sequence[DkimOutcome]
) -> tuple[DmarcVerdict, ...]:
    """One verdict for each Author Domain, the one to act on first. Never raises for what DNS or the letter says."""
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await judge_authors(resolver, authors, spf, dkim)
    except TimeoutError:
        reason = f"no result in {MAX_SECONDS:.0f} seconds"
        return tuple(DmarcVerdict(DmarcResult.TEMPERROR, domain, reason) for domain in authors.domains)


async def judge_authors(
    resolver: Resolver, authors: Authors, spf: SpfOutcome | None, dkim: Sequence[DkimOutcome]
) -> tuple[DmarcVerdict, ...]:
    """`check_dmarc` without a limit in time.

    A letter with several domains gets the strictest of their policies (RFC 9989 §11.5). Where From may be read
    otherwise, no verdict is a pass (§4.4: such a letter has no Identifier Alignment).
    """
    if not authors.domains:
        return (DmarcVerdict(DmarcResult.PERMERROR, "", authors.problem),)
    verdicts = [await _check_author(resolver, domain, spf, dkim, authors.problem) for domain in authors.domains]
    if len(verdicts) > 1:
        order = list(DmarcResult)
        verdicts.sort(key=lambda verdict: (-order.index(verdict.result), -verdict.policy.severity))
    return tuple(verdicts)


async def _check_author(
    resolver: Resolver, author: str, spf: SpfOutcome | None, dkim: Sequence[DkimOutcome], problem: str
) -> DmarcVerdict:
    walk = TreeWalk(resolver)
    try:
        published = await walk.policy_for(author)
    except ResolverFault as fault:
        return DmarcVerdict(DmarcResult.TEMPERROR, author, str(fault), problems=tuple(walk.problems))
    if published is None:
        reason = f"{author} has no DMARC policy"
        return DmarcVerdict(DmarcResult.NONE, author, reason, problems=tuple(walk.problems))
    problems = (*walk.problems, *published.record.problems)
    if not published.record.is_usable:  # §4.10.1
        reason = f"the DMARC record of {published.domain} has no valid policy"
        return DmarcVerdict(
            DmarcResult.PERMERROR, author, reason, published.domain, published.record, problems=problems
        )
    return await _Evaluation(walk, author, published, problem).verdict(spf, dkim)


class _Evaluation:
    """Of one Author Domain whose policy is known."""

    def __init__(self, walk: TreeWalk, author: str, published: Published, problem: str) -> None:
        self._walk = walk
        self._author = author
        self._published = published
        self._problem = problem
        self._organization = ""
        self._trouble = ""  # why something that might be aligned is not known

    async def verdict(self, spf: SpfOutcome | None, dkim: Iterable[DkimOutcome]) -> DmarcVerdict:
        record = self._published.record
        spf_aligned = spf is not None and await self._counts(spf.result, spf.domain, "SPF", strict=record.strict_spf)
        dkim_aligned: dict[str, None] = {}
        for one in dkim:
            if await self._counts(one.result, one.domain, "DKIM", strict=record.strict_dkim):
                dkim_aligned[_name(one.domain)] = None
        result, reason = self._result(spf_aligned, tuple(dkim_aligned))
        asked = Policy.NONE
        if result is DmarcResult.FAIL:
            try:
                asked = await self._asked_policy()
            except ResolverFault as fault:
                result, reason = DmarcResult.TEMPERROR, str(fault)
        return DmarcVerdict(
            result,
            self._author,
            reason,
            self._published.domain,
            record,
            self._organization,
            spf_aligned,
            tuple(dkim_aligned),
            asked.milder if record.is_test else asked,
            asked,
            (*self._walk.problems, *record.problems),
        )

    def _result(self, spf_aligned: bool, dkim_aligned: tuple[str, ...]) -> tuple[DmarcResult, str]:
        if spf_aligned or dkim_aligned:
            if self._problem:
                return DmarcResult.PERMERROR, self._problem
            by = ["SPF"] * spf_aligned + ["DKIM"] * bool(dkim_aligned)
            return DmarcResult.PASS, f"{' and '.join(by)} aligned with {self._author}"
        if self._trouble:  # §5.3.6: neither pass nor fail
            return DmarcResult.TEMPERROR, self._trouble
        return DmarcResult.FAIL, f"neither SPF nor DKIM is aligned with {self._author}"

    async def _counts(self, result: StrEnum, domain: str, method: str, *, strict: bool) -> bool:
        """Whether it is good and aligned. One that failed for the moment leaves trouble only when it is aligned:
        else anybody could sign with a domain whose DNS is broken, and no policy would ever apply to his letters."""
        if result not in ("pass", "temperror"):
            return False
        try:
            is_aligned = await self._is_aligned(_name(domain), strict=strict)
        except ResolverFault as fault:
            self._trouble = str(fault)
            return False
        if is_aligned and result == "temperror":
            self._trouble = f"{method} of {domain} could not be checked for the moment"
            return False
        return is_aligned

    async def _is_aligned(self, domain: str, *, strict: bool) -> bool:
        """§4.10.2; names are compared without case (§4.4)."""
        if domain == self._author:
            return True
        if strict or not domain:
            return False
        if not self._organization:
            self._organization = await self._walk.organization_of(self._author)
        # An organization's domains end in its name: others need no walk of their own.
        if domain != self._organization and not domain.endswith("." + self._organization):
            return False
        return await self._walk.organization_of(domain) == self._organization

    async def _asked_policy(self) -> Policy:
        record = self._published.record
        if self._published.domain == self._author:
            return record.policy_for(is_subdomain=False)
        there, missing = (record.policy_for(is_subdomain=True, exists=exists) for exists in (True, False))
        if there is missing or await self._walk.exists(self._author):
            return there
        return missing


def _name(domain: str) -> str:
    """As it is compared; "" for what is no domain name."""
    try:
        return Domain.parse(domain).name
    except AddressError:
        return ""
