# SPDX-License-Identifier: Apache-2.0
"""Who a letter says it is from: the Author Domain that DMARC is about (RFC 9989 §5.3.1).

Invariant: a From that programs could read in several ways has `problem` set, whichever address is found in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.address_list import parse_address_list
from posthouse.mail.header import HeaderScan

# Author Domains looked at. RFC 9989 §11.5: most letters with several are not wanted, and each costs DNS questions.
MAX_AUTHORS = 4


@dataclass(frozen=True, slots=True)
class Authors:
    """The domains of From, A-labels in lower case, each once, in order; at most MAX_AUTHORS.

    `problem` says in one line why they are not for certain all that people might be shown; "" where they are.
    """

    domains: tuple[str, ...]
    problem: str = ""


def authors_of(scan: HeaderScan) -> Authors:
    """Never fails. With several From fields the domains of all of them are there: a reader shows any."""
    values = scan.raw(b"from")
    if not values:
        return Authors((), "the letter has no From field")
    problem = ""
    found: dict[str, None] = {}
    for value in values:
        members = parse_address_list(value)
        if not members.is_clean:
            problem = "From is not well formed"
        for member in members.flat():
            if member.address is not None and not member.address.domain.is_literal:
                found[member.address.domain.name] = None
    if not found:
        problem = "From has no domain"
    elif len(found) > MAX_AUTHORS:
        problem = f"From has more than {MAX_AUTHORS} domains"
    elif len(values) > 1:
        problem = f"the letter has {len(values)} From fields"
    elif scan.is_too_big:
        problem = "the header is too big to find every From field"
    return Authors(tuple(found)[:MAX_AUTHORS], problem)
