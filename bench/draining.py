# SPDX-License-Identifier: Apache-2.0
"""A queue that was filled during an outage drains: how fast the healthy part goes while a part of the world is down.

Each destination has an address of its own on the loopback network; those that are down refuse connections.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench import filling
from bench.house import Server, free_port, raise_descriptors
from bench.sink import Sink

DOWN_OF_TEN = 3  # destinations
PATIENCE = 1800.0  # seconds
PAUSE = 0.1  # seconds between looks


def address(number: int) -> str:
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"


def is_down(number: int) -> bool:
    return number % 10 < DOWN_OF_TEN


async def _fill(folder: Path, letters: int, destinations: int, octets: int) -> float:
    async with filling.opened(folder) as house:
        return await filling.fill_queue(house, letters, destinations, octets)


def drain(folder: Path, letters: int, destinations: int, octets: int = 1024) -> dict[str, float]:
    """Fill the queue, start the server, and wait until everything that can go has gone."""
    raise_descriptors()
    sink, refusing = Sink(), free_port()
    routes = {
        filling.destination(number): f"{address(number)}:{refusing if is_down(number) else sink.port}"
        for number in range(destinations)
    }
    server = Server(folder, routes)
    server.found()
    fill_seconds = asyncio.run(_fill(folder, letters, destinations, octets))
    healthy = sum(not is_down(number % destinations) for number in range(letters))
    with sink, server.running():
        started, cpu = time.perf_counter(), server.cpu_seconds()
        own = 0.0
        while sink.letters() < healthy:
            own = max(own, server.memory().own)
            if time.perf_counter() - started > PATIENCE:
                raise RuntimeError(f"{sink.letters()} of {healthy} letters in {PATIENCE} s")
            time.sleep(PAUSE)
        seconds, used = time.perf_counter() - started, server.cpu_seconds() - cpu
        resident = server.memory().resident
    if sink.letters() != healthy:
        raise RuntimeError(f"{sink.letters()} letters came, {healthy} were to be sent")
    return {
        "rate": healthy / seconds,
        "seconds": seconds,
        "cpu_ms": used / healthy * 1000,
        "own_mib": own,
        "rss_mib": resident,
        "fill_rate": letters / fill_seconds,
    }
