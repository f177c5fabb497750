# SPDX-License-Identifier: Apache-2.0
"""SPF: the whole test suite of RFC 7208, every result and every explanation."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from posthouse.mailauth.spf import check_mail_from
from tests.mailauth.zones import Records, Zone

SUITE = Path(__file__).resolve().parents[1] / "data" / "spf" / "rfc7208-tests.yml"
SCENARIOS = list(yaml.safe_load_all(SUITE.read_text("utf-8")))
VECTORS = [
    pytest.param(scenario, vector, id=f"{scenario['description']}: {name}")
    for scenario in SCENARIOS
    for name, vector in scenario["tests"].items()
]


def zone_of(scenario: dict[str, Any]) -> Zone:
    """Entries of type SPF stand for TXT, unless there is a TXT entry; `TXT: NONE` stands for its absence."""
    names: dict[str, Records] = {}
    for name, records in scenario["zonedata"].items():
        has_text = any("TXT" in record for record in records if isinstance(record, dict))
        names[name] = [
            record if isinstance(record, str) else _as_text(record)
            for record in records
            if isinstance(record, str) or (record.get("TXT") != "NONE" and not (has_text and "SPF" in record))
        ]
    return Zone(names)


def _as_text(record: dict[str, Any]) -> dict[str, Any]:
    (kind, value), *_ = record.items()
    if kind not in ("SPF", "TXT"):
        return record
    joined = value if isinstance(value, str) else "".join(value)
    return {"TXT": joined.encode("latin-1")}  # an escape like \x96 stands for one octet


def test_the_suite_is_whole() -> None:
    assert (len(SCENARIOS), len(VECTORS)) == (16, 203)


@pytest.mark.parametrize(("scenario", "vector"), VECTORS)
async def test_vector(scenario: dict[str, Any], vector: dict[str, Any]) -> None:
    verdict = await check_mail_from(
        zone_of(scenario),
        ipaddress.ip_address(vector["host"]),
        vector["mailfrom"],
        vector["helo"],
        receiver="unknown",
        now=1_800_000_000.0,
    )
    expected = vector["result"]
    assert str(verdict.result) in (expected if isinstance(expected, list) else [expected]), verdict.reason
    assert verdict.reason
    assert verdict.terms <= 11
    if "explanation" in vector:
        # DEFAULT is the implementation's own text; ours is none (§6.2). The hexadecimal digits of %{i} are letters of
        # domain names: §7.4 has them in lower case, the suite in upper case.
        wanted = "" if vector["explanation"] == "DEFAULT" else vector["explanation"]
        assert verdict.explanation.lower() == wanted.lower()
