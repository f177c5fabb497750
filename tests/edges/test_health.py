# SPDX-License-Identifier: Apache-2.0
"""/health answers from the store, at the same cost whatever waits in the queue."""

from __future__ import annotations

from typing import cast

import httpx2

from posthouse.edges.control.metrics import metrics_app
from posthouse.ports import StoreFault
from posthouse.services.queue_desk import QueueDesk
from posthouse.telemetry import Metrics


class Desk:
    """Knows when something is due; counting everything is not what a monitor may ask every few seconds."""

    def __init__(self, fault: StoreFault | None = None) -> None:
        self._fault = fault

    async def next_due(self) -> float | None:
        if self._fault is not None:
            raise self._fault
        return None

    async def totals(self) -> None:
        raise AssertionError("the whole queue was counted")


async def health(desk: Desk) -> tuple[int, str]:
    transport = httpx2.ASGITransport(metrics_app(Metrics(), cast("QueueDesk", desk)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://posthouse") as client:
        answer = await client.get("/health")
        return answer.status_code, answer.text


async def test_health_does_not_count_the_queue() -> None:
    assert await health(Desk()) == (200, "ok\n")


async def test_health_tells_that_the_store_fails() -> None:
    assert await health(Desk(StoreFault("no disk"))) == (503, "store: no disk\n")
