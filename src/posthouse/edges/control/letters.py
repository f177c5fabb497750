# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about the letters of an account: import and export."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from posthouse.edges.control import requests as bodies
from posthouse.edges.control.routing import ACCOUNT, BadRequest, moment, number, octets_of, route, words
from posthouse.outcome import Refusal
from posthouse.services.letterbox import Letterbox, NewLetter

MAX_BATCH = 8 << 20  # octets of a batch of letters: what one unit of work appends in some ten milliseconds


def letter_routes(letterbox: Letterbox, max_message: int) -> list[Route]:
    """`max_message`: octets of one letter."""
    api = _LettersApi(letterbox, max_message)
    return [
        route(ACCOUNT + "/mailboxes", GET=api.list_mailboxes),
        route(ACCOUNT + "/letter-batches", POST=api.add_letters),
        route(ACCOUNT + "/letters", GET=api.list_letters, POST=api.add_letter),
        route(ACCOUNT + "/letters/{letter}", GET=api.letter),
    ]


class _LettersApi:
    def __init__(self, letterbox: Letterbox, max_message: int) -> None:
        self._letterbox = letterbox
        self._max_message = max_message

    async def list_mailboxes(self, request: Request) -> Any:
        return await self._letterbox.boxes(request.path_params["address"])

    async def list_letters(self, request: Request) -> Any:
        """A page of a mailbox: ids, flags, times and digests, after the UID `after`; an empty one ends it."""
        query = request.query_params
        return await self._letterbox.page(
            request.path_params["address"], query.get("mailbox", "INBOX"), after=number(query.get("after", "0"))
        )

    async def letter(self, request: Request) -> Any:
        octets = await self._letterbox.read(request.path_params["address"], request.path_params["letter"])
        return Response(octets, media_type="message/rfc822")

    async def add_letter(self, request: Request) -> Any:
        """The body is the letter; `mailbox`, `flags`, `keywords` (both comma-separated) and `received_at` (epoch
        seconds, now when not given) are parameters."""
        query = request.query_params
        letter = NewLetter(
            await octets_of(request, self._max_message),
            mailbox=query.get("mailbox", "INBOX"),
            flags=words(query.get("flags", "")),
            keywords=words(query.get("keywords", "")),
            received_at=moment(query["received_at"]) if "received_at" in query else None,
        )
        return {"uid": await self._letterbox.add(request.path_params["address"], letter)}

    async def add_letters(self, request: Request) -> Any:
        """The body is a MessagePack array of letters (`BatchLetter`); the answer has an object for each of them."""
        octets = await octets_of(request, MAX_BATCH)
        try:
            wanted = msgspec.msgpack.decode(octets, type=list[bodies.BatchLetter])
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"the body is not the MessagePack that is wanted: {error}") from None
        batch = [NewLetter(each.octets, each.mailbox, each.flags, each.keywords, each.received_at) for each in wanted]
        done = await self._letterbox.add_all(request.path_params["address"], batch)
        return [
            {"error": each.text, "status": str(each.status)} if isinstance(each, Refusal) else {"uid": each}
            for each in done
        ]
