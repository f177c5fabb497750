# SPDX-License-Identifier: Apache-2.0
"""/metrics for Prometheus and /health for monitors, on a local HTTP port."""

from __future__ import annotations

from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from posthouse.ports import StoreFault
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.relay import Relay
from posthouse.store.blobs.packs import PackStore
from posthouse.store.databases.sqlite import SqliteDatabase
from posthouse.telemetry import Metrics

STATES = ("due", "claimed", "held")


def register_gauges(metrics: Metrics, relay: Relay, database: SqliteDatabase, packs: PackStore) -> None:
    """What is read when Prometheus asks."""
    counters = relay.counters
    for name in ("delivered", "deferred", "failed", "expired", "warned", "connections", "connections_failed"):
        metrics.gauge(f"relay_{name}", f"Relay: {name} since the start", partial(getattr, counters, name))
    metrics.gauge("relay_open_connections", "Outgoing connections now", lambda: relay.state().connections)
    metrics.gauge("store_batches", "Group commits since the start", lambda: database.statistics.batches)
    metrics.gauge("store_units", "Units of work made durable since the start", lambda: database.statistics.units)
    metrics.gauge("store_wal_octets", "Length of the write-ahead log", lambda: database.wal_octets)
    metrics.gauge("store_has_room", "1 while content is taken in", lambda: int(packs.has_room()))


def metrics_app(metrics: Metrics, desk: QueueDesk) -> Starlette:
    queue = dict.fromkeys(STATES, 0.0)
    queue.update(letters=0.0, oldest=0.0, down=0.0)
    for state in STATES:
        metrics.gauge(f"queue_{state}", f"Recipients {state} in the queue", partial(queue.__getitem__, state))
    metrics.gauge("queue_letters", "Letters in the queue", lambda: queue["letters"])
    metrics.gauge(
        "queue_oldest_timestamp", "When the oldest queued letter arrived, 0 for none", lambda: queue["oldest"]
    )
    metrics.gauge("queue_destinations_down", "Destinations that do not answer", lambda: queue["down"])

    async def page(_request: Request) -> Response:
        totals = await desk.totals()
        queue.update({state: totals.recipients.get(state, 0) for state in STATES})
        queue.update(letters=totals.letters, oldest=totals.oldest_at or 0.0, down=totals.destinations_down)
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def health(_request: Request) -> Response:
        try:
            await desk.next_due()  # any question to the store; counting a large queue would take a tenth of a second
        except StoreFault as fault:
            return PlainTextResponse(f"store: {fault}\n", 503)
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", page), Route("/health", health)])
