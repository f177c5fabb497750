# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about people: accounts, their addresses, app passwords and shared mailboxes; aliases."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from posthouse.edges.control import requests as bodies
from posthouse.edges.control.office import Office
from posthouse.edges.control.routing import ACCOUNT, body_of, ident, route
from posthouse.services.mailbox.shares import WORDS


def people_routes(office: Office) -> list[Route]:
    """A route that ends with an address takes whatever comes, so it stands behind all longer ones."""
    api = _PeopleApi(office)
    return [
        route("/v1/accounts", GET=api.list_accounts, POST=api.add_account),
        route(ACCOUNT + "/addresses", POST=api.add_address),
        route(ACCOUNT + "/addresses/{extra:path}", DELETE=api.remove_address),
        route(ACCOUNT + "/app-passwords", GET=api.list_app_passwords, POST=api.add_app_password),
        route(ACCOUNT + "/app-passwords/{number:int}", DELETE=api.revoke_app_password),
        route(ACCOUNT + "/shares", GET=api.list_shares, POST=api.share),
        route(ACCOUNT, PATCH=api.change_account, DELETE=api.remove_account),
        route("/v1/aliases", GET=api.list_aliases, POST=api.add_alias, DELETE=api.remove_alias),
    ]


class _PeopleApi:
    def __init__(self, office: Office) -> None:
        self._shares = office.shares
        self._admin = office.administration

    async def list_accounts(self, request: Request) -> Any:
        return await self._admin.list_accounts(request.query_params.get("domain"))

    async def add_account(self, request: Request) -> Any:
        body = await body_of(request, bodies.NewAccount)
        number = await self._admin.add_account(
            body.address,
            body.password,
            password_hash=body.password_hash,
            quota=body.quota,
            language=body.language,
            is_admin=body.is_admin,
            display_name=body.display_name,
        )
        return {"id": str(number)}

    async def change_account(self, request: Request) -> Any:
        address = request.path_params["address"]
        body = await body_of(request, bodies.ChangedAccount)
        if body.password is not None or body.password_hash is not None:
            await self._admin.set_password(address, body.password, password_hash=body.password_hash)
        if body.quota is not None:
            await self._admin.set_quota(address, body.quota or None)
        if body.language is not None:
            await self._admin.set_language(address, body.language)
        if body.is_admin is not None:
            await self._admin.set_admin(address, is_admin=body.is_admin)
        if body.is_active is not None:
            await (self._admin.enable(address) if body.is_active else self._admin.disable(address))
        return {}

    async def remove_account(self, request: Request) -> Any:
        await self._admin.remove_account(request.path_params["address"])
        return {}

    async def add_address(self, request: Request) -> Any:
        body = await body_of(request, bodies.NewAddress)
        await self._admin.add_address(request.path_params["address"], body.address)
        return {}

    async def remove_address(self, request: Request) -> Any:
        await self._admin.remove_address(request.path_params["address"], request.path_params["extra"])
        return {}

    async def list_app_passwords(self, request: Request) -> Any:
        return await self._admin.list_app_passwords(request.path_params["address"])

    async def add_app_password(self, request: Request) -> Any:
        body = await body_of(request, bodies.NewAppPassword)
        made = await self._admin.add_app_password(request.path_params["address"], body.label, body.scopes)
        return {"id": str(made.id), "password": made.text}

    async def revoke_app_password(self, request: Request) -> Any:
        await self._admin.revoke_app_password(request.path_params["address"], ident(request.path_params["number"]))
        return {}

    async def list_shares(self, request: Request) -> Any:
        return await self._shares.list(request.path_params["address"])

    async def share(self, request: Request) -> Any:
        body = await body_of(request, bodies.NewShare)
        letters = body.rights if body.may is None else WORDS[body.may]
        owner = request.path_params["address"]
        await self._shares.give(owner, body.mailbox, body.person, letters, makes=body.create)
        return {}

    async def list_aliases(self, request: Request) -> Any:
        return await self._admin.list_aliases(request.query_params.get("domain"))

    async def add_alias(self, request: Request) -> Any:
        body = await body_of(request, bodies.AliasTargets)
        await self._admin.add_alias(body.address, body.targets)
        return {}

    async def remove_alias(self, request: Request) -> Any:
        body = await body_of(request, bodies.AliasTargets)
        await self._admin.remove_alias(body.address, body.targets)
        return {}
