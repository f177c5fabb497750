# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about reports: `/v1/reports/…`. Pages go on with `before`, the last id of the page before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from posthouse.edges.control import wire
from posthouse.edges.control.routing import domain_name, number, route
from posthouse.outcome import BAD_MAILBOX, Refusal
from posthouse.services.report_desk import PAGE, ReportDesk
from posthouse.services.report_draft import DAY, Draft
from posthouse.store.reports_sent import SentReport

DEFAULT_SPAN = 30 * DAY  # seconds of a domain's summary unless asked otherwise


def report_routes(desk: ReportDesk) -> list[Route]:
    api = _ReportsApi(desk)
    return [
        route("/v1/reports/received", GET=api.received),
        route("/v1/reports/received/{report:int}", GET=api.report),
        route("/v1/reports/sent", GET=api.sent, POST=api.send),
        route("/v1/reports/unread", GET=api.unread),
        route("/v1/reports/drafts", GET=api.drafts),
        route("/v1/reports/domains/{name}", GET=api.domain),
    ]


class _ReportsApi:
    def __init__(self, desk: ReportDesk) -> None:
        self._desk = desk

    async def received(self, request: Request) -> Any:
        found = await self._desk.received(*self._page(request))
        return {"reports": found, "before": str(found[-1].id) if len(found) == PAGE else None}

    async def sent(self, request: Request) -> Any:
        found = await self._desk.sent(*self._page(request))
        reports = [{**_sent(each.report), "outcome": each.outcome, "text": each.text} for each in found]
        return {"reports": reports, "before": str(found[-1].report.id) if len(found) == PAGE else None}

    async def unread(self, _request: Request) -> Any:
        return await self._desk.unread()

    async def report(self, request: Request) -> Any:
        found = await self._desk.report(number(str(request.path_params["report"])))
        if found is None:
            raise Refusal(BAD_MAILBOX, "no such report; `posthouse report list` has their numbers")
        return found

    async def domain(self, request: Request) -> Any:
        """`seconds`: how far back."""
        name = domain_name(request.path_params["name"])
        seconds = number(request.query_params.get("seconds", str(DEFAULT_SPAN)))
        return await self._desk.domain(name, seconds)

    async def drafts(self, _request: Request) -> Any:
        return [_draft(each) for each in await self._desk.preview()]

    async def send(self, _request: Request) -> Any:
        run = await self._desk.send()
        return {"sent": [_sent(each) for each in run.sent], "waiting": run.waiting}

    def _page(self, request: Request) -> tuple[str, int | None]:
        query = request.query_params
        return query.get("domain", ""), number(query["before"]) if "before" in query else None


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")


def _sent(report: SentReport) -> dict[str, Any]:
    return {**wire.plain(report), "date": _date(report.day)}


def _draft(draft: Draft) -> dict[str, Any]:
    return {
        "kind": draft.kind,
        "domain": draft.domain,
        "date": _date(draft.day),
        "report_id": draft.report_id,
        "targets": [*map(str, draft.addresses), *draft.urls],
        "refused": [{"uri": uri, "reason": reason} for uri, reason in draft.refused],
        "records": draft.records,
        "letters": draft.letters,
        "skipped": draft.skipped,
        "text": draft.text.decode("utf-8"),
    }
