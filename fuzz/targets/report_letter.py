# SPDX-License-Identifier: Apache-2.0
"""Letters that may hold a report: one is found, or none, or it is told why it cannot be read."""

from __future__ import annotations

from posthouse.mailauth.unpacking import ReportFault
from posthouse.services.report_reading import read_letter

DICTIONARY = "reports.dict"
MAX_SIZE = 8192


def target(data: bytes) -> None:
    for subject in (b"", b"Report Domain: alice.test"):
        try:
            found = read_letter(memoryview(data), subject)
        except ReportFault:
            continue
        assert found is None or found.report_id
