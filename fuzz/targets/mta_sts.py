# SPDX-License-Identifier: Apache-2.0
"""MTA-STS texts: a record has one well-formed id, a policy allows only what it names, and reads the same again.

The input is records, then a policy, `<next>` between them.
"""

from __future__ import annotations

from posthouse.mailauth.mta_sts import (
    MAX_AGE,
    MAX_PATTERNS,
    Mode,
    PolicyFault,
    is_policy_type,
    parse_policy,
    parse_record,
)

DICTIONARY = "mta_sts.dict"


def target(data: bytes) -> None:
    *records, body = data.split(b"<next>")
    ident = parse_record(records)
    if ident is not None:
        assert 0 < len(ident) <= 32
        assert ident.isascii()
        assert ident.isalnum()
        assert sum(record.startswith(b"v=STSv1") for record in records) >= 1
    is_policy_type(body[:100].decode("latin-1"))
    try:
        policy = parse_policy(body)
    except PolicyFault:
        return
    assert 0 <= policy.max_age <= MAX_AGE
    assert len(policy.patterns) <= MAX_PATTERNS
    assert policy.patterns or policy.mode is Mode.NONE
    for pattern in policy.patterns:
        host = pattern.replace("*", "one", 1)
        assert policy.allows(host.upper()), "a policy does not allow what it names"
        assert not policy.allows(f"one.two.{host}") or f"*.two.{host}" in policy.patterns
    again = parse_policy("\n".join(policy.lines).encode())
    assert again == policy, "a policy reads otherwise when its own lines are read"
