# SPDX-License-Identifier: Apache-2.0
"""What the checks found, in the words of Authentication-Results: methods, results and properties as registered.

Invariant: no local part is told that nobody has authenticated (RFC 8601 §2.7.2, §4).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict
from posthouse.mailauth.iprev import IprevResult, IprevVerdict
from posthouse.mailauth.results import Property, Statement
from posthouse.mailauth.spf import SpfResult, SpfVerdict
from posthouse.ports import IPAddress


class Signature(Protocol):
    """One DKIM-Signature and what became of it."""

    @property
    def result(self) -> StrEnum: ...

    @property
    def domain(self) -> str: ...

    @property
    def selector(self) -> str: ...

    @property
    def algorithm(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def signature(self) -> str:
        """The first characters of b=."""


def spf_statement(verdict: SpfVerdict) -> Statement:
    """RFC 8601 §2.7.2: the domain alone, as smtp.mailfrom or smtp.helo."""
    reason = "" if verdict.result is SpfResult.PASS else verdict.reason
    properties = (Property("smtp", verdict.identity, verdict.domain),) if verdict.domain else ()
    return Statement("spf", verdict.result, properties, reason)


def dkim_statement(signature: Signature) -> Statement:
    """RFC 8601 §2.7.1; header.b tells a letter's signatures apart (RFC 6008 §4)."""
    told = (
        ("d", signature.domain),
        ("s", signature.selector),
        ("a", signature.algorithm),
        ("b", signature.signature),
    )
    properties = tuple(Property("header", name, text) for name, text in told if text)
    return Statement("dkim", signature.result, properties, signature.reason)


def unsigned() -> Statement:
    """RFC 8601 §2.7.1: the letter has no signature."""
    return Statement("dkim", "none")


def dmarc_statement(verdict: DmarcVerdict) -> Statement:
    """RFC 9989 §9.1. policy.dmarc is what the owner asks for, told where it would be applied."""
    properties = [Property("header", "from", verdict.author)] if verdict.author else []
    if verdict.result is DmarcResult.FAIL:
        properties.append(Property("policy", "dmarc", verdict.policy))
    reason = "" if verdict.result is DmarcResult.PASS else verdict.reason
    return Statement("dmarc", verdict.result, tuple(properties), reason)


def iprev_statement(verdict: IprevVerdict) -> Statement:
    """RFC 8601 §2.7.3."""
    reason = "" if verdict.result is IprevResult.PASS else verdict.reason
    return Statement("iprev", verdict.result, (Property("policy", "iprev", str(verdict.address)),), reason)


def auth_statement(identity: str) -> Statement:
    """RFC 8601 §2.7.4: a client that has authenticated as `identity`."""
    return Statement("auth", "pass", (Property("smtp", "auth", identity),))


def arc_statement(
    result: str, *, reason: str = "", remote: IPAddress | None = None, oldest_pass: int | None = None
) -> Statement:
    """RFC 8617 §6: the chain's state, none, pass or fail; there is no word for one not known for the moment."""
    properties = []
    if remote is not None:
        properties.append(Property("smtp", "remote-ip", str(remote)))
    if oldest_pass is not None:
        properties.append(Property("header", "oldest-pass", str(oldest_pass)))
    return Statement("arc", result, tuple(properties), reason)
