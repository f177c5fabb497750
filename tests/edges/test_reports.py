# SPDX-License-Identifier: Apache-2.0
"""Reports over the admin API and on the command line: lists, one report, a domain by source, the dry run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from posthouse import config
from posthouse.app import House, open_house
from posthouse.composing.ground import real_machine
from posthouse.edges.control.api import control_app
from posthouse.office import office_of
from posthouse.ports import Transaction
from posthouse.services.report_reading import dmarc_details, dmarc_sources, tls_details, tls_sources
from posthouse.store import dmarc_counts, reports_received, reports_sent
from posthouse.store.dmarc_counts import Counted
from posthouse.store.reports_received import ReceivedReport
from posthouse.store.reports_sent import SentReport
from tests.mailauth.reports import aggregate, tls

from .conftest import Line

NOW = time.time()
TODAY = int(NOW // 86400)


def fill(tx: Transaction) -> None:
    dmarc, about_tls = aggregate("alice.test"), tls("alice.test")
    rows: list[tuple[str, Any, Any, Any]] = [
        ("dmarc", dmarc, dmarc_sources(dmarc.records), dmarc_details(dmarc)),
        ("tls", about_tls, tls_sources(about_tls), tls_details(about_tls)),
    ]
    for kind, report, sources, details in rows:
        passed = sum(each.count for each in sources if each.is_pass)
        failed = sum(each.count for each in sources if not each.is_pass)
        end = int(NOW) - 3600
        kept = ReceivedReport(
            0, kind, "alice.test", "Reporter", report.report_id, "reporter.test", end - 86399, end, NOW, 77, passed,
            failed, 0, details,
        )  # fmt: skip
        assert reports_received.keep(tx, kept, sources) == ""
    reports_received.unread(tx, 5, NOW, "cut off")
    url = "https://far.test/x"
    sent = SentReport(0, "tls", "far.test", 20_000, "1@x", NOW, url, "far.test", None, "failed", "HTTP 503", 1, 5)
    reports_sent.record(tx, sent)
    tags = ("far.test", "none", "none", "none", "r", "r", "0", "n")
    dmarc_counts.add(tx, TODAY, "far.test", (tags, ("https://far.test/",), ()), [Counted(b"\x80", 3, 3)])


def with_house(folder: Path, work: Callable[[House], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        house = open_house(folder, config.load(folder), real_machine())
        try:
            return await work(house)
        finally:
            await house.close()

    return asyncio.run(main())


@pytest.fixture
def filled(house: Path) -> Path:
    with_house(house, lambda opened: opened.database.write(fill))
    return house


def test_the_api(filled: Path) -> None:
    async def ask(house: House) -> None:
        app = control_app(office_of(house, lambda: None, is_serving=False))
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://posthouse/v1/reports"
        ) as api:

            async def get(path: str, code: int = 200) -> Any:
                found = await api.get(path)
                assert found.status_code == code, found.text
                return found.json()

            page = await get("/received")
            assert [each["kind"] for each in page["reports"]] == ["tls", "dmarc"]
            assert page["before"] is None
            ident = page["reports"][1]["id"]
            assert isinstance(ident, str)
            one = await get(f"/received/{ident}")
            assert [each["source"] for each in one["sources"]] == ["192.0.2.7", "192.0.2.99"]
            assert (await get("/received/3", 422))["error"].startswith("no such report")
            assert [
                each["kind"] for each in (await get(f"/received?before={page['reports'][0]['id']}"))["reports"]
            ] == ["dmarc"]
            assert (await get("/received?domain=other.test"))["reports"] == []
            await get("/received?before=x", 400)
            await get("/received?before=" + "9" * 30, 400)
            await get("/received/" + "9" * 30, 400)
            (sent,) = (await get("/sent"))["reports"]
            assert (sent["outcome"], sent["text"], sent["date"]) == ("failed", "HTTP 503", "2024-10-04")
            assert [each["reason"] for each in await get("/unread")] == ["cut off"]
            told = await get("/domains/ALICE.test")
            assert [(each["kind"], each["passed"], each["failed"]) for each in told["kinds"]] == [
                ("dmarc", 7, 2),
                ("tls", 10, 3),
            ]
            assert (await get("/domains/alice.test?seconds=60"))["kinds"] == []
            await get("/domains/-", 400)
            (draft,) = await get("/drafts")
            assert (draft["domain"], draft["skipped"], draft["letters"]) == ("far.test", "nobody may get it", 3)
            assert draft["refused"] == [{"uri": "https://far.test/", "reason": "no mailto address"}]
            assert (await api.post("/sent")).json() == {"sent": [], "waiting": 0}

    with_house(filled, ask)


def test_the_command_line(line: Line, filled: Path) -> None:
    received = line.done("report", "list")
    assert "Reporter" in received
    assert "alice.test" in received
    ident = next(each["id"] for each in line.told("report", "list") if each["kind"] == "dmarc")
    shown = line.done("report", "show", ident)
    for text in ("about alice.test", "192.0.2.99: 2 failed", "7 passed", "alice.test (s1) pass", "policy_test_mode"):
        assert text in shown
    by_source = line.done("report", "show", "alice.test", "--days", "2")
    assert "7 letters that passed DMARC, 2 not" in by_source
    assert "10 sessions with good TLS, 3 not" in by_source
    assert line.told("report", "show", "alice.test")["domain"] == "alice.test"
    assert "No report about other.test" in line.done("report", "show", "other.test")
    assert "no such report" in line.refused("report", "show", "3")
    assert "failed: HTTP 503" in line.done("report", "list", "--sent")
    assert "cut off" in line.done("report", "list", "--unread")
    assert "No report has come." in line.done("report", "list", "--domain", "other.test")
    dry = line.done("report", "send", "--dry-run")
    assert "far.test  3 in all  -> nobody: nobody may get it" in dry
    assert "not to https://far.test/: no mailto address" in dry
    assert json.loads(json.dumps(line.told("report", "send", "--dry-run")))[0]["kind"] == "dmarc"
    assert line.done("report", "send") == "0 reports sent.\n"
