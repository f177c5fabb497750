# SPDX-License-Identifier: Apache-2.0
"""Reports of any software: a ReadDsn or None, with text that can be stored."""

from __future__ import annotations

from posthouse.mail.dsn_reader import MAX_RECIPIENTS, MAX_VALUE, parse_dsn

DICTIONARY = "dsn.dict"
MAX_SIZE = 8192


def target(data: bytes) -> None:
    report = parse_dsn(data)
    if report is None:
        return
    assert len(report.recipients) <= MAX_RECIPIENTS
    for recipient in report.recipients:
        for text in (recipient.final_recipient, recipient.diagnostic, recipient.remote_mta):
            text.encode()
            assert len(text) <= MAX_VALUE
        assert recipient.status is None or recipient.status.cls in (2, 4, 5)
