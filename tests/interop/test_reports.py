# SPDX-License-Identifier: Apache-2.0
"""The DMARC reports that we write, against the schema of RFC 9990 (appendix A), by xmllint."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.mailauth.aggregate import AggregateReport, Facts, PublishedPolicy, Record
from posthouse.mailauth.aggregate_writer import render
from tests.mailauth.reports import aggregate

from .programs import ROOT, require

pytestmark = pytest.mark.interop

SCHEMA = ROOT / "tests" / "data" / "reports" / "dmarc-2.0.xsd"
LEAST = AggregateReport(
    "R",
    "a@r.test",
    "1",
    0,
    86399,
    PublishedPolicy("a.test", "none"),
    (Record(1, Facts("2001:db8::1", "none", dkim_aligned=False, spf_aligned=False, header_from="a.test")),),
)


def problems(folder: Path, octets: bytes) -> str:
    path = folder / "report.xml"
    path.write_bytes(octets)
    done = subprocess.run(
        ["xmllint", "--noout", "--nonet", "--schema", str(SCHEMA), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize(
    "report", [aggregate("bob.test"), LEAST, replace(LEAST, organization="<&>\x00\x1b", records=LEAST.records * 3)]
)
def test_what_we_write_follows_the_schema(report: AggregateReport, tmp_path: Path) -> None:
    require("xmllint")
    assert problems(tmp_path, render(report)) == ""


def test_the_schema_tells_a_wrong_report(tmp_path: Path) -> None:
    require("xmllint")
    wrong = render(aggregate("bob.test")).replace(b"<disposition>pass", b"<disposition>passed")
    assert "element disposition" in problems(tmp_path, wrong)
    assert problems(tmp_path, render(replace(LEAST, records=())))
