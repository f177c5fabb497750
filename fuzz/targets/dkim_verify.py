# SPDX-License-Identifier: Apache-2.0
"""DKIM verification of any letter with any key record: a verdict for each signature and nothing else."""

from __future__ import annotations

from fuzz.choices import Choices
from posthouse.mailauth.dkim_verify import MAX_SIGNATURES, DkimResult, verify

DICTIONARY = "dkim.dict"
MAX_SIZE = 8192


def target(data: bytes) -> None:
    choices = Choices(data)
    now = 1_700_000_000.0 if choices.flag() else None
    record, _, letter = choices.rest.partition(b"<letter>")
    header, _, body = letter.partition(b"\r\n\r\n")
    asked: list[str] = []

    def lookup(name: str) -> bytes | None:
        asked.append(name)
        return record or None

    verdicts = verify(header + b"\r\n", body, lookup, now=now)
    assert len(verdicts) <= MAX_SIGNATURES
    assert len(asked) <= len(verdicts)
    for verdict in verdicts:
        assert (verdict.result is DkimResult.PASS) == (not verdict.reason)
        verdict.domain.encode()
