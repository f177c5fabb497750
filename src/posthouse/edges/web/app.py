# SPDX-License-Identifier: Apache-2.0
"""What the web listeners answer, as an ASGI application.

Invariant: no answer depends on whether an account exists. Plain HTTP gives challenges of certificate authorities and
the way to https, and leads nowhere but to names of ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from posthouse.edges.web import apple, microsoft, mozilla
from posthouse.edges.web.names import Names, is_challenge_token
from posthouse.mail.address import Address, AddressError, parse_address
from posthouse.ports import Clock, StoreFault
from posthouse.services.client_settings import HTTPS_PORT, Offer, is_loopback
from posthouse.services.limits import RateLimit
from posthouse.services.own_policy import WELL_KNOWN_PATH, OwnPolicy
from posthouse.telemetry import Metrics, logger

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHALLENGES = "/.well-known/acme-challenge/"
# Signed profiles, for all that ask together: people set up a device now and then, and a stranger may ask for any
# address. A signature costs some milliseconds of the threads that check passwords.
SIGNATURES_PER_MINUTE = 30
IN_QUERIES = "=&%+@:,;!$*()/?"  # beside letters and digits: what stays as it is in the query of a redirection
AUTODISCOVER = (microsoft.PATH, microsoft.JSON_PATH)  # asked for in any case: the services of Microsoft know none


@dataclass(frozen=True, slots=True)
class WebTerms:
    """What the answers are made of. `policy` gives the present one. `challenge` gives the answer to a token of ours
    (RFC 8555 §8.3), `sign` a profile signed with the server's certificate, both None where there is none."""

    offer: Offer
    names: Names
    policy: Callable[[], OwnPolicy]
    challenge: Callable[[str], str | None]
    sign: Callable[[bytes], Awaitable[bytes | None]]
    clock: Clock
    metrics: Metrics
    behind_proxy: bool = False


class WebApp:
    """The application: what holds for every request, and behind it the routes."""

    def __init__(self, terms: WebTerms) -> None:
        self._terms = terms
        self._routes = _Pages(terms).routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                # RFC 9110 §6.6.1: an origin server with a clock says the time.
                date = formatdate(self._terms.clock.wall(), usegmt=True).encode()
                message["headers"] = [
                    *message["headers"],
                    (b"date", date),
                    (b"x-content-type-options", b"nosniff"),
                ]
            try:
                await send(message)
            except Exception as fault:  # whatever the server's protocol says when the peer is gone or has gone mad
                raise Unsent from fault

        scope["path"] = _plain_path(scope["path"])
        try:
            if self._is_secure(scope) or scope["path"].startswith(CHALLENGES):
                await self._routes(scope, receive, dated)
            else:
                await (await self._way_to_https(scope))(scope, receive, dated)
        except (ClientDisconnect, Unsent):
            return  # nobody is there to be answered
        except StoreFault:
            await _later()(scope, receive, dated)
        except Exception:  # the server goes on; who asked got an answer, the log gets the story
            logger("web").exception("a request failed", path=scope["path"], method=scope["method"])

    def _is_secure(self, scope: Scope) -> bool:
        if scope["scheme"] == "https":
            return True
        client = scope.get("client")  # None: a Unix socket
        if not self._terms.behind_proxy or (client is not None and not is_loopback(client[0])):
            return False
        return [value for name, value in scope["headers"] if name == b"x-forwarded-proto"] == [b"https"]

    async def _way_to_https(self, scope: Scope) -> Response:
        request, port = Request(scope), self._terms.offer.https_port
        host = self._terms.names.host_of(request.headers.get("host", ""))
        # A path that is none (`GET http://elsewhere/`) would become part of the name that the way leads to.
        if port is None or not scope["path"].startswith("/") or not await self._terms.names.are_ours(host):
            return _nothing(self._terms)
        self._terms.metrics.web_requests.labels("redirect").inc()
        if request.method not in ("GET", "HEAD"):
            # What was sent was open to all; to send it once more would not help.
            return PlainTextResponse("use https\n", 403)
        place = host if port == HTTPS_PORT else f"{host}:{port}"
        query = scope["query_string"].decode("latin-1")
        target = (
            f"https://{place}{quote(scope['path'])}{'?' + quote(query, safe='=&%+@.:,;~!$*()/?-_') if query else ''}"
        )
        # [MS-OXDISCO]: Outlook follows a 302 of this page and no other answer.
        return Response(None, 302 if scope["path"] in AUTODISCOVER else 301, {"location": target})


class _Pages:
    def __init__(self, terms: WebTerms) -> None:
        self._terms = terms
        self._signatures = RateLimit(terms.clock, SIGNATURES_PER_MINUTE, 60.0)

    def routes(self) -> Starlette:
        json = microsoft.JSON_PATH
        pages = Starlette(
            routes=[
                Route(CHALLENGES + "{token}", self._challenge),
                Route(WELL_KNOWN_PATH, self._policy),
                *(Route(path, self._autoconfig) for path in mozilla.PATHS),
                Route(microsoft.PATH, self._autodiscover, methods=["GET", "POST"]),
                Route(json, self._autodiscover_json),
                Route(json + "/v1.0/{address}", self._autodiscover_json),
                Route(apple.PATH, self._profile),
            ],
            exception_handlers={404: self._no_page, 405: self._no_method, StoreFault: self._no_store},
        )
        # A slash too many would be answered with a way to whatever host the request names.
        pages.router.redirect_slashes = False
        return pages

    async def _challenge(self, request: Request) -> Response:
        """RFC 8555 §8.3."""
        token = request.path_params["token"]
        answer = self._terms.challenge(token) if is_challenge_token(token) else None
        if answer is None:
            return _nothing(self._terms)
        self._count("challenge")
        return Response(answer, media_type="application/octet-stream")

    async def _policy(self, request: Request) -> Response:
        """RFC 8461 §3.2, for every domain of ours."""
        policy = self._terms.policy()
        domain = self._terms.names.below(self._host(request), "mta-sts")
        if not policy.is_published or not await self._terms.names.is_domain(domain):
            return _nothing(self._terms)
        self._count("mta-sts")
        return Response(policy.text, headers={"content-type": "text/plain; charset=us-ascii"})

    async def _autoconfig(self, request: Request) -> Response:
        """For the domain of the address, or where none is said for that of the host's name."""
        asked = request.query_params.get("emailaddress", "")
        address = _address(asked)
        host = self._host(request)
        domain = address.domain.name if address else self._terms.names.below(host, "autoconfig") or host
        if (asked and address is None) or not await self._offers_to(domain):
            return _nothing(self._terms)
        self._count("autoconfig")
        return Response(mozilla.client_config(self._terms.offer, domain), media_type=mozilla.MEDIA_TYPE)

    async def _autodiscover(self, request: Request) -> Response:
        if request.method != "POST":
            return _xml(microsoft.error(microsoft.INVALID_REQUEST))
        try:
            asked = microsoft.read_request(await _body(request, microsoft.MAX_BODY))
        except TooLarge:
            return PlainTextResponse("too large\n", 413)
        except microsoft.NotAutodiscover:
            return _xml(microsoft.error(microsoft.INVALID_REQUEST))
        if asked.schema not in ("", microsoft.SCHEMA):
            return _xml(microsoft.error(microsoft.UNKNOWN_SCHEMA))
        address = _address(asked.address)
        if address is None or not await self._offers_to(address.domain.name):
            return _xml(microsoft.error(microsoft.UNKNOWN_ADDRESS), 404)
        self._count("autodiscover")
        return _xml(microsoft.settings(self._terms.offer, str(address)))

    async def _autodiscover_json(self, request: Request) -> Response:
        query = request.query_params
        address = _address(request.path_params.get("address") or query.get("Email") or query.get("email", ""))
        if address is None or not await self._offers_to(address.domain.name):
            return _nothing(self._terms)
        self._count("autodiscover")
        protocol = query.get("Protocol") or query.get("protocol", "")
        if protocol.lower() != "autodiscoverv1":
            return _json(microsoft.pointer_error(protocol), 400)
        port = self._terms.offer.https_port or HTTPS_PORT
        place = self._terms.offer.hostname if port == HTTPS_PORT else f"{self._terms.offer.hostname}:{port}"
        return _json(microsoft.pointer(f"https://{place}{microsoft.PATH}"))

    async def _profile(self, request: Request) -> Response:
        address = _address(request.query_params.get("emailaddress", ""))
        if address is None or not await self._offers_to(address.domain.name):
            return _nothing(self._terms)
        self._count("profile")
        plain = apple.profile(self._terms.offer, address)
        # Unsigned it says the same, and TLS has shown who says it.
        signed = await self._terms.sign(plain) if self._signatures.take("") else None
        return Response(
            signed or plain,
            media_type=apple.MEDIA_TYPE,
            headers={"content-disposition": 'attachment; filename="mail.mobileconfig"', "cache-control": "no-store"},
        )

    async def _offers_to(self, domain: str) -> bool:
        return self._terms.offer.is_usable and await self._terms.names.is_domain(domain)

    def _host(self, request: Request) -> str:
        return self._terms.names.host_of(request.headers.get("host", ""))

    def _count(self, kind: str) -> None:
        self._terms.metrics.web_requests.labels(kind).inc()

    async def _no_page(self, _request: Request, _fault: Exception) -> Response:
        return _nothing(self._terms)

    async def _no_store(self, _request: Request, _fault: Exception) -> Response:
        return _later()

    async def _no_method(self, _request: Request, fault: Exception) -> Response:
        self._count("nothing")
        return PlainTextResponse("not so\n", 405, headers=getattr(fault, "headers", None))


class Unsent(Exception):  # noqa: N818 - as ClientDisconnect
    """An answer could not be sent."""


class TooLarge(Exception):  # noqa: N818 - an answer
    """The body has more octets than are read."""


async def _body(request: Request, limit: int) -> bytes:
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > limit:
            raise TooLarge
    return bytes(octets)


def _address(text: str) -> Address | None:
    try:
        return parse_address(text.strip())
    except AddressError:
        return None


def _plain_path(path: str) -> str:
    """Clients of Microsoft's write Autodiscover in any case."""
    lower = path.lower()
    for known in AUTODISCOVER:
        if lower == known or lower.startswith(known + "/v1.0/"):
            return known + path[len(known) :]
    return path


def _nothing(terms: WebTerms) -> Response:
    terms.metrics.web_requests.labels("nothing").inc()
    return PlainTextResponse("there is nothing here\n", 404)


def _later() -> Response:
    return PlainTextResponse("try again later\n", 503)


def _xml(octets: bytes, code: int = 200) -> Response:
    return Response(octets, code, headers={"content-type": microsoft.MEDIA_TYPE})


def _json(value: dict[str, str], code: int = 200) -> Response:
    return Response(msgspec.json.encode(value), code, media_type="application/json")
