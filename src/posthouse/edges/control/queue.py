# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about the queue, and what became of a letter."""

from __future__ import annotations

from typing import Any, assert_never

from starlette.requests import Request
from starlette.routing import Route

from posthouse.edges.control import requests as bodies
from posthouse.edges.control.routing import BadRequest, body_of, ident, number, route
from posthouse.outcome import BAD_MAILBOX, Refusal
from posthouse.services.queue_desk import QueueDesk
from posthouse.store.queue_admin import PAGE, Selection


def queue_routes(desk: QueueDesk) -> list[Route]:
    api = _QueueApi(desk)
    return [
        route("/v1/queue", GET=api.list_queue, POST=api.act_on_queue),
        route("/v1/queue/{queue_id:int}", GET=api.show_queued),
        route("/v1/trace", GET=api.trace),
    ]


class _QueueApi:
    def __init__(self, desk: QueueDesk) -> None:
        self._desk = desk

    async def list_queue(self, request: Request) -> Any:
        query = request.query_params
        selection = _selection(query.get("selection", ""))
        after = number(query.get("after", "0"))
        letters, following = await self._desk.list_letters(selection, after, PAGE)
        return {"letters": letters, "after": following}

    async def show_queued(self, request: Request) -> Any:
        detail = await self._desk.show(ident(request.path_params["queue_id"]))
        if detail is None:
            raise Refusal(BAD_MAILBOX, "no such letter in the queue; `posthouse trace` also knows finished ones")
        return detail

    async def act_on_queue(self, request: Request) -> Any:
        body = await body_of(request, bodies.QueueAction)
        selection = _selection(body.selection)
        match body.action:
            case "hold":
                return await self._desk.hold(selection)
            case "release":
                return await self._desk.release(selection)
            case "retry":
                return await self._desk.retry_now(selection)
            case "drop":
                return await self._desk.drop(selection, tell_sender=body.tell_sender)
            case unknown:
                assert_never(unknown)

    async def trace(self, request: Request) -> Any:
        what = request.query_params.get("what", "").strip()
        if not what:
            raise BadRequest("say what to trace: what=MESSAGE-ID, ADDRESS or QUEUE-ID")
        if what.isdigit():
            number(what)
        return await self._desk.trace(what)


def _selection(text: str) -> Selection:
    """Nothing said means the whole queue."""
    if text.strip().isdigit():
        number(text.strip())
    return Selection.parse(text) if text.strip() else Selection()
