# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about domains: their records in DNS, and the keys that sign for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from starlette.requests import Request
from starlette.routing import Route

from posthouse.edges.control import requests as bodies
from posthouse.edges.control import wire
from posthouse.edges.control.office import Office
from posthouse.edges.control.routing import body_of, domain_name, route
from posthouse.outcome import BAD_DOMAIN, INVALID_COMMAND, Refusal
from posthouse.services.dns_records import DnsRecord, Surroundings, policy_name, wanted_records, zone_text
from posthouse.store.directory import said
from posthouse.store.keys import KeyInfo


def domain_routes(office: Office) -> list[Route]:
    api = _DomainsApi(office)
    domain = "/v1/domains/{name}"
    return [
        route("/v1/domains", GET=api.list_domains, POST=api.add_domain),
        route(domain, DELETE=api.remove_domain),
        route(domain + "/catch-all", PUT=api.set_catch_all),
        route(domain + "/keys", GET=api.list_keys, POST=api.act_on_keys),
        route(domain + "/keys/{selector}", DELETE=api.remove_key),
        route(domain + "/dns", GET=api.dns, POST=api.update_dns),
    ]


class _DomainsApi:
    def __init__(self, office: Office) -> None:
        self._office = office
        self._admin = office.administration

    async def list_domains(self, _request: Request) -> Any:
        return await self._admin.list_domains()

    async def add_domain(self, request: Request) -> Any:
        body = await body_of(request, bodies.NewDomain)
        number = await self._admin.add_domain(body.name, alias_of=body.alias_of, catch_all=body.catch_all)
        return {"id": str(number)}

    async def remove_domain(self, request: Request) -> Any:
        await self._admin.remove_domain(request.path_params["name"])
        return {}

    async def set_catch_all(self, request: Request) -> Any:
        body = await body_of(request, bodies.CatchAll)
        await self._admin.set_catch_all(request.path_params["name"], body.target)
        return {}

    async def dns(self, request: Request) -> Any:
        domain, around, records = await records_of(self._office, request.path_params["name"])
        lines = [{**wire.plain(each), "zone_line": each.zone_line()} for each in records]
        return {"records": lines, "zone": zone_text(domain, around, records)}

    async def update_dns(self, request: Request) -> Any:
        """Put the records into the zone; the answer says what was done with each."""
        body = await body_of(request, bodies.ZoneChange)
        domain, around, records = await records_of(self._office, request.path_params["name"])
        if self._office.zone_update is None:
            raise Refusal(INVALID_COMMAND, "there is no zone to write to: see [dns_update] in posthouse.toml")
        unsure = () if around.senders.is_known else (policy_name(domain),)
        return await self._office.zone_update.run(
            domain, records, is_dry=body.dry_run, replaces=body.replace, unsure=unsure
        )

    async def list_keys(self, request: Request) -> Any:
        found = await self._office.key_rotation.keys_of(domain_name(request.path_params["name"]))
        return [_key(each) for each in found]

    async def act_on_keys(self, request: Request) -> Any:
        """Make the next keys, or let the waiting ones sign now."""
        body = await body_of(request, bodies.KeyAction)
        rotation, name = self._office.key_rotation, domain_name(request.path_params["name"])
        match body.action:
            case "rotate":
                return [_key(each) for each in await rotation.rotate(name)]
            case "activate":
                return [_key(each) for each in await rotation.activate(name, unseen=body.unseen)]
            case unknown:
                assert_never(unknown)

    async def remove_key(self, request: Request) -> Any:
        await self._office.key_rotation.remove(
            domain_name(request.path_params["name"]), request.path_params["selector"]
        )
        return {}


async def records_of(office: Office, text: str) -> tuple[str, Surroundings, list[DnsRecord]]:
    """The domain's name, of what its records speak, and those records."""
    domain = domain_name(text)
    if domain not in {row.name for row in await office.administration.list_domains()}:
        raise Refusal(BAD_DOMAIN, f"the domain {said(domain)} is not served here; `posthouse domain add` adds it")
    around = office.surroundings()
    around = replace(around, senders=await office.checkup.senders(domain, around))
    return domain, around, await wanted_records(domain, office.domain_keys, around)


def _key(each: KeyInfo) -> dict[str, Any]:
    record = DnsRecord(each.record_name, "TXT", each.record, "")
    return {**wire.plain(each), "record_name": each.record_name, "zone_line": record.zone_line()}
