# SPDX-License-Identifier: Apache-2.0
"""DMARC aggregate reports as values (RFC 9990 §3.1.1), whoever wrote them and by whichever of the two standards.

Invariant: words of a fixed vocabulary are in lower case; what a report does not say is "" or empty, never made up.
"""

from __future__ import annotations

from dataclasses import dataclass

# RFC 9990 appendix A, ActionDispositionType, PolicyOverrideType (and those of RFC 7489 appendix C).
DISPOSITIONS = ("none", "pass", "quarantine", "reject")


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """§3.1.1.5. `testing`: "y" or "n"; `discovery`: "treewalk" or "psl"; `percentage` is RFC 7489's."""

    domain: str
    policy: str
    subdomain_policy: str = ""
    missing_policy: str = ""
    dkim_mode: str = ""
    spf_mode: str = ""
    failure_options: str = ""
    testing: str = ""
    discovery: str = ""
    percentage: str = ""


@dataclass(frozen=True, slots=True)
class SignatureResult:
    """§3.1.1.12: d=, s= and what became of the signature."""

    domain: str
    selector: str
    result: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class SpfIdentity:
    """§3.1.1.13."""

    domain: str
    result: str
    scope: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """§3.1.6: why something else was done than the policy says."""

    kind: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All of a record (§3.1.1.7) but how many letters it stands for. `dkim_aligned`, `spf_aligned`: DMARC's view.

    `envelope_from` None: not told; "": the null reverse-path.
    """

    source: str
    disposition: str
    dkim_aligned: bool
    spf_aligned: bool
    header_from: str
    envelope_from: str | None = None
    envelope_to: str = ""
    overrides: tuple[Override, ...] = ()
    signatures: tuple[SignatureResult, ...] = ()
    spf: SpfIdentity | None = None

    @property
    def is_pass(self) -> bool:
        return self.dkim_aligned or self.spf_aligned


@dataclass(frozen=True, slots=True)
class Record:
    count: int
    facts: Facts


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """`begin` and `end`: the period in epoch seconds, both inclusive."""

    organization: str
    email: str
    report_id: str
    begin: int
    end: int
    policy: PublishedPolicy
    records: tuple[Record, ...]
    contact: str = ""
    errors: tuple[str, ...] = ()
    generator: str = ""

    @property
    def passed(self) -> int:
        """Letters with a DMARC pass."""
        return sum(each.count for each in self.records if each.facts.is_pass)

    @property
    def failed(self) -> int:
        return sum(each.count for each in self.records if not each.facts.is_pass)
