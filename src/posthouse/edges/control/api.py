# SPDX-License-Identifier: Apache-2.0
"""The admin API as an ASGI application: one route per verb, JSON in and out, refusals as `{"error": …}`.

The same application serves the control socket and, in process, the command line when no server runs. Who can
open the socket (0600) is the administrator; there is no other check here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, assert_never

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from posthouse import __version__
from posthouse.config import ConfigError
from posthouse.edges.control import requests as bodies
from posthouse.edges.control import wire
from posthouse.edges.control.reports import report_routes
from posthouse.mail.address import AddressError, Domain
from posthouse.outcome import BAD_DOMAIN, BAD_MAILBOX, INVALID_COMMAND, Refusal
from posthouse.ports import Conflict, StoreFault
from posthouse.services.administration import Administration
from posthouse.services.backups import Backups
from posthouse.services.certificate_findings import findings_of
from posthouse.services.certificates import Certificates
from posthouse.services.checkup import Checkup
from posthouse.services.dns_records import DnsRecord, Surroundings, wanted_records, zone_text
from posthouse.services.key_rotation import KeyRotation
from posthouse.services.keys import DomainKeys
from posthouse.services.letterbox import Letterbox, NewLetter
from posthouse.services.mailbox.shares import WORDS, Shares
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.report_desk import ReportDesk
from posthouse.services.zone_update import ZoneUpdate
from posthouse.store.directory import said
from posthouse.store.keys import KeyInfo
from posthouse.store.queue_admin import PAGE, Selection
from posthouse.telemetry import logger

T = TypeVar("T", bound=bodies.Body)
Verb = Callable[[Request], Awaitable[Any]]

MAX_BODY = 1 << 20  # octets of a request that is not a letter: some thousand alias targets
MAX_BATCH = 8 << 20  # octets of a batch of letters: what one unit of work appends in some ten milliseconds
MAX_DIGITS = 19  # of a 63-bit number
MAX_MOMENT = 253402300800.0  # the year 10000: no calendar of a mail program goes further


@dataclass(frozen=True, slots=True)
class Office:
    """What the API acts on. `status` gives facts of the process, `reload` reads settings and certificates again and
    gives the settings that have changed and need a restart."""

    administration: Administration
    domain_keys: DomainKeys
    key_rotation: KeyRotation
    queue_desk: QueueDesk
    checkup: Checkup
    letterbox: Letterbox
    shares: Shares
    backups: Backups
    certificates: Certificates
    zone_update: ZoneUpdate | None
    reports: ReportDesk
    hostname: str
    surroundings: Callable[[], Surroundings]
    max_message: int
    status: Callable[[], dict[str, Any]]
    reload: Callable[[], list[str]]


class BadRequest(Exception):  # noqa: N818 - an answer, as Refusal
    """The request itself is not well formed; the text says where."""


def control_app(office: Office) -> Starlette:
    """The routes. Local parts may hold a "/", so addresses are `path`s, and the longer routes stand first."""
    api = _Api(office)
    account = "/v1/accounts/{address:path}"
    return Starlette(
        routes=[
            _route("/v1/status", GET=api.status),
            _route("/v1/reload", POST=api.reload),
            _route("/v1/domains", GET=api.list_domains, POST=api.add_domain),
            _route("/v1/domains/{name}", DELETE=api.remove_domain),
            _route("/v1/domains/{name}/catch-all", PUT=api.set_catch_all),
            _route("/v1/domains/{name}/keys", GET=api.list_keys, POST=api.act_on_keys),
            _route("/v1/domains/{name}/keys/{selector}", DELETE=api.remove_key),
            _route("/v1/domains/{name}/dns", GET=api.dns, POST=api.update_dns),
            _route("/v1/certificates", GET=api.list_certificates),
            _route("/v1/certificates/{label}", POST=api.act_on_certificate),
            _route("/v1/accounts", GET=api.list_accounts, POST=api.add_account),
            _route(account + "/addresses", POST=api.add_address),
            _route(account + "/addresses/{extra:path}", DELETE=api.remove_address),
            _route(account + "/app-passwords", GET=api.list_app_passwords, POST=api.add_app_password),
            _route(account + "/app-passwords/{number:int}", DELETE=api.revoke_app_password),
            _route(account + "/mailboxes", GET=api.list_mailboxes),
            _route(account + "/shares", GET=api.list_shares, POST=api.share),
            _route(account + "/letter-batches", POST=api.add_letters),
            _route(account + "/letters", GET=api.list_letters, POST=api.add_letter),
            _route(account + "/letters/{letter}", GET=api.letter),
            _route(account, PATCH=api.change_account, DELETE=api.remove_account),
            _route("/v1/aliases", GET=api.list_aliases, POST=api.add_alias, DELETE=api.remove_alias),
            _route("/v1/queue", GET=api.list_queue, POST=api.act_on_queue),
            _route("/v1/queue/{queue_id:int}", GET=api.show_queued),
            _route("/v1/trace", GET=api.trace),
            _route("/v1/check", GET=api.check, POST=api.repair),
            *report_routes(office.reports, _route, _number),
            _route("/v1/backups", POST=api.begin_backup),
            _route("/v1/backups/{hold:int}", PATCH=api.renew_backup, DELETE=api.end_backup),
        ],
        exception_handlers={404: _no_such_route, 405: _no_such_route},
    )


def _route(path: str, **verbs: Verb) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            result = await verbs[request.method](request)
        except BadRequest as bad:
            return _json({"error": str(bad)}, 400)
        except Refusal as refusal:
            return _json({"error": refusal.text, "status": str(refusal.status)}, 422)
        except ConfigError as wrong:
            return _json({"error": str(wrong)}, 422)
        except Conflict:
            return _json({"error": "somebody else changed the same thing at the same time; try again"}, 409)
        except StoreFault as fault:
            return _json({"error": f"the store failed: {fault}", "status": "4.3.0"}, 503)
        except ClientDisconnect:  # whoever asked is gone, in the middle of his request
            return _json({"error": "the request has no end"}, 400)
        except Exception as fault:  # the server goes on; who asked gets an answer, the log the whole story
            logger("control").exception("a request failed", path=request.url.path, method=request.method)
            return _json({"error": f"a fault of the server, see its log: {fault!r}"}, 500)
        return result if isinstance(result, Response) else _json(result, 200)

    return Route(path, endpoint, methods=list(verbs))


async def _no_such_route(request: Request, _fault: Exception) -> Response:
    return _json({"error": f"there is no {request.method} {request.url.path}"}, 404)


def _json(value: object, code: int) -> Response:
    return Response(wire.encode(value), code, media_type="application/json")


class _Api:
    def __init__(self, office: Office) -> None:
        self._office = office
        self._admin = office.administration

    async def _body(self, request: Request, kind: type[T]) -> T:
        octets = await _read(request, MAX_BODY)
        try:
            return msgspec.json.decode(octets, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the second fall through
            raise BadRequest(f"the body is not the JSON that is wanted: {error}") from None

    # --- the server -------------------------------------------------------------------------------

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
            name, around, records = await self._records(domain)
            findings += await checkup.domain(name, records, around)
            findings += await self._office.key_rotation.findings(name)
        else:
            findings += self._office.key_rotation.lost()
        if store:
            findings += await checkup.store()
        return findings

    async def repair(self, request: Request) -> Any:
        """Check the store and mend what can be mended."""
        body = await self._body(request, bodies.Repair)
        return await self._office.checkup.store(repair=True, source=None if body.source is None else Path(body.source))

    # --- domains ----------------------------------------------------------------------------------

    async def list_domains(self, _request: Request) -> Any:
        return await self._admin.list_domains()

    async def add_domain(self, request: Request) -> Any:
        body = await self._body(request, bodies.NewDomain)
        number = await self._admin.add_domain(body.name, alias_of=body.alias_of, catch_all=body.catch_all)
        return {"id": str(number)}

    async def remove_domain(self, request: Request) -> Any:
        await self._admin.remove_domain(request.path_params["name"])
        return {}

    async def set_catch_all(self, request: Request) -> Any:
        body = await self._body(request, bodies.CatchAll)
        await self._admin.set_catch_all(request.path_params["name"], body.target)
        return {}

    async def dns(self, request: Request) -> Any:
        domain, around, records = await self._records(request.path_params["name"])
        lines = [{**wire.plain(each), "zone_line": each.zone_line()} for each in records]
        return {"records": lines, "zone": zone_text(domain, around, records)}

    async def list_keys(self, request: Request) -> Any:
        found = await self._office.key_rotation.keys_of(_domain_name(request.path_params["name"]))
        return [_key(each) for each in found]

    async def act_on_keys(self, request: Request) -> Any:
        """Make the next keys, or let the waiting ones sign now."""
        body = await self._body(request, bodies.KeyAction)
        rotation, name = self._office.key_rotation, _domain_name(request.path_params["name"])
        match body.action:
            case "rotate":
                return [_key(each) for each in await rotation.rotate(name)]
            case "activate":
                return [_key(each) for each in await rotation.activate(name, unseen=body.unseen)]
            case unknown:
                assert_never(unknown)

    async def remove_key(self, request: Request) -> Any:
        await self._office.key_rotation.remove(
            _domain_name(request.path_params["name"]), request.path_params["selector"]
        )
        return {}

    async def update_dns(self, request: Request) -> Any:
        """Put the records into the zone; the answer says what was done with each."""
        body = await self._body(request, bodies.ZoneChange)
        domain, _, records = await self._records(request.path_params["name"])
        if self._office.zone_update is None:
            raise Refusal(INVALID_COMMAND, "there is no zone to write to: see [dns_update] in posthouse.toml")
        return await self._office.zone_update.run(domain, records, is_dry=body.dry_run, replaces=body.replace)

    # --- certificates -----------------------------------------------------------------------------

    async def list_certificates(self, _request: Request) -> Any:
        return await self._office.certificates.list()

    async def act_on_certificate(self, request: Request) -> Any:
        body = await self._body(request, bodies.CertificateAction)
        name, certificates = request.path_params["label"], self._office.certificates
        match body.action:
            case "renew":
                return {"certificate": await certificates.renew(name, new_key=body.new_key), "sight": None}
            case "rollover":
                status, sight = await certificates.rollover(name)
                return {"certificate": status, "sight": sight}
            case "revoke":
                return {"certificate": await certificates.revoke(name, body.reason), "sight": None}
            case unknown:
                assert_never(unknown)

    async def _records(self, text: str) -> tuple[str, Surroundings, list[DnsRecord]]:
        """The domain's name, of what its records speak, and those records."""
        domain = _domain_name(text)
        if domain not in {row.name for row in await self._admin.list_domains()}:
            raise Refusal(BAD_DOMAIN, f"the domain {said(domain)} is not served here; `posthouse domain add` adds it")
        around = self._office.surroundings()
        around = replace(around, senders=await self._office.checkup.senders(domain, around))
        return domain, around, await wanted_records(domain, self._office.domain_keys, around)

    # --- accounts ---------------------------------------------------------------------------------

    async def list_accounts(self, request: Request) -> Any:
        return await self._admin.list_accounts(request.query_params.get("domain"))

    async def add_account(self, request: Request) -> Any:
        body = await self._body(request, bodies.NewAccount)
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
        body = await self._body(request, bodies.ChangedAccount)
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
        body = await self._body(request, bodies.NewAddress)
        await self._admin.add_address(request.path_params["address"], body.address)
        return {}

    async def remove_address(self, request: Request) -> Any:
        await self._admin.remove_address(request.path_params["address"], request.path_params["extra"])
        return {}

    async def list_app_passwords(self, request: Request) -> Any:
        return await self._admin.list_app_passwords(request.path_params["address"])

    async def add_app_password(self, request: Request) -> Any:
        body = await self._body(request, bodies.NewAppPassword)
        made = await self._admin.add_app_password(request.path_params["address"], body.label, body.scopes)
        return {"id": str(made.id), "password": made.text}

    async def revoke_app_password(self, request: Request) -> Any:
        await self._admin.revoke_app_password(request.path_params["address"], _id(request.path_params["number"]))
        return {}

    # --- shared mailboxes -------------------------------------------------------------------------

    async def list_shares(self, request: Request) -> Any:
        return await self._office.shares.list(request.path_params["address"])

    async def share(self, request: Request) -> Any:
        body = await self._body(request, bodies.NewShare)
        letters = body.rights if body.may is None else WORDS[body.may]
        owner = request.path_params["address"]
        await self._office.shares.give(owner, body.mailbox, body.person, letters, makes=body.create)
        return {}

    # --- letters: import and export ---------------------------------------------------------------

    async def list_mailboxes(self, request: Request) -> Any:
        return await self._office.letterbox.boxes(request.path_params["address"])

    async def list_letters(self, request: Request) -> Any:
        """A page of a mailbox: ids, flags, times and digests, after the UID `after`; an empty one ends it."""
        query = request.query_params
        return await self._office.letterbox.page(
            request.path_params["address"], query.get("mailbox", "INBOX"), after=_number(query.get("after", "0"))
        )

    async def letter(self, request: Request) -> Any:
        octets = await self._office.letterbox.read(request.path_params["address"], request.path_params["letter"])
        return Response(octets, media_type="message/rfc822")

    async def add_letter(self, request: Request) -> Any:
        """The body is the letter; `mailbox`, `flags`, `keywords` (both comma-separated) and `received_at` (epoch
        seconds, now when not given) are parameters."""
        query = request.query_params
        letter = NewLetter(
            await _read(request, self._office.max_message),
            mailbox=query.get("mailbox", "INBOX"),
            flags=_words(query.get("flags", "")),
            keywords=_words(query.get("keywords", "")),
            received_at=_moment(query["received_at"]) if "received_at" in query else None,
        )
        return {"uid": await self._office.letterbox.add(request.path_params["address"], letter)}

    async def add_letters(self, request: Request) -> Any:
        """The body is a MessagePack array of letters (`BatchLetter`); the answer has an object for each of them."""
        octets = await _read(request, MAX_BATCH)
        try:
            wanted = msgspec.msgpack.decode(octets, type=list[bodies.BatchLetter])
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"the body is not the MessagePack that is wanted: {error}") from None
        batch = [NewLetter(each.octets, each.mailbox, each.flags, each.keywords, each.received_at) for each in wanted]
        done = await self._office.letterbox.add_all(request.path_params["address"], batch)
        return [
            {"error": each.text, "status": str(each.status)} if isinstance(each, Refusal) else {"uid": each}
            for each in done
        ]

    # --- aliases ----------------------------------------------------------------------------------

    async def list_aliases(self, request: Request) -> Any:
        return await self._admin.list_aliases(request.query_params.get("domain"))

    async def add_alias(self, request: Request) -> Any:
        body = await self._body(request, bodies.AliasTargets)
        await self._admin.add_alias(body.address, body.targets)
        return {}

    async def remove_alias(self, request: Request) -> Any:
        body = await self._body(request, bodies.AliasTargets)
        await self._admin.remove_alias(body.address, body.targets)
        return {}

    # --- the queue --------------------------------------------------------------------------------

    async def list_queue(self, request: Request) -> Any:
        query = request.query_params
        selection = _selection(query.get("selection", ""))
        after = _number(query.get("after", "0"))
        letters, following = await self._office.queue_desk.list_letters(selection, after, PAGE)
        return {"letters": letters, "after": following}

    async def show_queued(self, request: Request) -> Any:
        detail = await self._office.queue_desk.show(_id(request.path_params["queue_id"]))
        if detail is None:
            raise Refusal(BAD_MAILBOX, "no such letter in the queue; `posthouse trace` also knows finished ones")
        return detail

    async def act_on_queue(self, request: Request) -> Any:
        body = await self._body(request, bodies.QueueAction)
        desk = self._office.queue_desk
        selection = _selection(body.selection)
        match body.action:
            case "hold":
                return await desk.hold(selection)
            case "release":
                return await desk.release(selection)
            case "retry":
                return await desk.retry_now(selection)
            case "drop":
                return await desk.drop(selection, tell_sender=body.tell_sender)
            case unknown:
                assert_never(unknown)

    async def trace(self, request: Request) -> Any:
        what = request.query_params.get("what", "").strip()
        if not what:
            raise BadRequest("say what to trace: what=MESSAGE-ID, ADDRESS or QUEUE-ID")
        if what.isdigit():
            _number(what)
        return await self._office.queue_desk.trace(what)

    # --- backups ----------------------------------------------------------------------------------

    async def begin_backup(self, _request: Request) -> Any:
        """Packs stay as they are, and a snapshot lies in `backup/` of the data directory, until the backup is ended."""
        return await self._office.backups.begin()

    async def renew_backup(self, request: Request) -> Any:
        await self._office.backups.renew(_id(request.path_params["hold"]))
        return {}

    async def end_backup(self, request: Request) -> Any:
        await self._office.backups.end(_id(request.path_params["hold"]))
        return {}


def _key(each: KeyInfo) -> dict[str, Any]:
    record = DnsRecord(each.record_name, "TXT", each.record, "")
    return {**wire.plain(each), "record_name": each.record_name, "zone_line": record.zone_line()}


def _domain_name(text: str) -> str:
    try:
        return Domain.parse(text).name
    except AddressError as error:
        raise BadRequest(f"{text}: {error}") from None


async def _read(request: Request, limit: int) -> bytes:
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > limit:
            raise BadRequest(f"the body is larger than {limit} octets")
    return bytes(octets)


def _selection(text: str) -> Selection:
    """Nothing said means the whole queue."""
    if text.strip().isdigit():
        _number(text.strip())
    return Selection.parse(text) if text.strip() else Selection()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadRequest(f"{text[:MAX_DIGITS]!r} is not a number that is known here")
    return _id(int(text))


def _id(number: int) -> int:
    """Ids have 63 bits, and so has every number that a database takes."""
    if number >= 1 << 63:
        raise BadRequest(f"{number} is not a number that is known here")
    return number


def _moment(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < MAX_MOMENT:  # also false for what is not a number
        raise BadRequest(f"{text!r} is not a time in seconds since 1970")
    return seconds
