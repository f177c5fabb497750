# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about the server as a whole: its state, settings, health and backups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from posthouse import __version__
from posthouse.edges.control import requests as bodies
from posthouse.edges.control.domains import records_of
from posthouse.edges.control.office import Office
from posthouse.edges.control.routing import body_of, ident, route
from posthouse.services.certificate_findings import findings_of


def server_routes(office: Office) -> list[Route]:
    api = _ServerApi(office)
    return [
        route("/v1/status", GET=api.status),
        route("/v1/reload", POST=api.reload),
        route("/v1/check", GET=api.check, POST=api.repair),
        route("/v1/backups", POST=api.begin_backup),
        route("/v1/backups/{hold:int}", PATCH=api.renew_backup, DELETE=api.end_backup),
    ]


class _ServerApi:
    def __init__(self, office: Office) -> None:
        self._office = office

    async def status(self, _request: Request) -> Any:
        totals = await self._office.queue_desk.totals()
        return {"version": __version__, "hostname": self._office.hostname, **self._office.status(), "queue": totals}

    async def reload(self, _request: Request) -> Any:
        return {"restart_needed": self._office.reload()}

    async def check(self, request: Request) -> Any:
        """`domain`: its DNS records; `store`: every counter and pack; neither: the machine."""
        checkup = self._office.checkup
        domain, store = request.query_params.get("domain", ""), request.query_params.get("store", "")
        findings = await checkup.machine()
        findings += findings_of(await self._office.certificates.list())
        if domain:
            name, around, records = await records_of(self._office, domain)
            findings += await checkup.domain(name, records, around)
            findings += await self._office.key_rotation.findings(name)
        else:
            findings += self._office.key_rotation.lost()
        if store:
            findings += await checkup.store()
        return findings

    async def repair(self, request: Request) -> Any:
        """Check the store and mend what can be mended."""
        body = await body_of(request, bodies.Repair)
        return await self._office.checkup.store(repair=True, source=None if body.source is None else Path(body.source))

    async def begin_backup(self, _request: Request) -> Any:
        """Packs stay as they are, and a snapshot lies in `backup/` of the data directory, until the backup is ended."""
        return await self._office.backups.begin()

    async def renew_backup(self, request: Request) -> Any:
        await self._office.backups.renew(ident(request.path_params["hold"]))
        return {}

    async def end_backup(self, request: Request) -> Any:
        await self._office.backups.end(ident(request.path_params["hold"]))
        return {}
