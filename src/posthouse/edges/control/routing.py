# SPDX-License-Identifier: Apache-2.0
"""From a request to a verb and back: routes, what requests carry, and refusals as answers.

Invariant: whatever a request carries and whatever goes wrong, there is an answer in JSON, and the server goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from posthouse.config import ConfigError
from posthouse.edges.control import requests as bodies
from posthouse.edges.control import wire
from posthouse.mail.address import AddressError, Domain
from posthouse.outcome import Refusal
from posthouse.ports import Conflict, StoreFault
from posthouse.telemetry import logger

T = TypeVar("T", bound=bodies.Body)
Verb = Callable[[Request], Awaitable[Any]]

# Local parts may hold a "/", so an address is a `path`, and longer routes stand before it.
ACCOUNT = "/v1/accounts/{address:path}"
MAX_BODY = 1 << 20  # octets of a request that is not a letter: some thousand alias targets
MAX_DIGITS = 19  # of a 63-bit number
MAX_MOMENT = 253402300800.0  # the year 10000: no calendar of a mail program goes further


class BadRequest(Exception):  # noqa: N818 - an answer, as Refusal
    """The request itself is not well formed; the text says where."""


def route(path: str, **verbs: Verb) -> Route:
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


async def no_such_route(request: Request, _fault: Exception) -> Response:
    return _json({"error": f"there is no {request.method} {request.url.path}"}, 404)


def _json(value: object, code: int) -> Response:
    return Response(wire.encode(value), code, media_type="application/json")


# --- what a request carries -------------------------------------------------------------------------


async def body_of(request: Request, kind: type[T]) -> T:
    """The JSON of a body. Raises BadRequest."""
    octets = await octets_of(request, MAX_BODY)
    try:
        return msgspec.json.decode(octets, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the second fall through
        raise BadRequest(f"the body is not the JSON that is wanted: {error}") from None


async def octets_of(request: Request, limit: int) -> bytes:
    """A body of at most `limit` octets. Raises BadRequest."""
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > limit:
            raise BadRequest(f"the body is larger than {limit} octets")
    return bytes(octets)


def domain_name(text: str) -> str:
    try:
        return Domain.parse(text).name
    except AddressError as error:
        raise BadRequest(f"{text}: {error}") from None


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadRequest(f"{text[:MAX_DIGITS]!r} is not a number that is known here")
    return ident(int(text))


def ident(number: int) -> int:
    """Ids have 63 bits, and so has every number that a database takes."""
    if number >= 1 << 63:
        raise BadRequest(f"{number} is not a number that is known here")
    return number


def moment(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < MAX_MOMENT:  # also false for what is not a number
        raise BadRequest(f"{text!r} is not a time in seconds since 1970")
    return seconds
