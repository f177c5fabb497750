# SPDX-License-Identifier: Apache-2.0
"""Coroutines begun on the spot, and finished by a task only if they have to wait. Invariant: each runs once.

Most commands are answered without waiting for anything. To wake a connection's task for each of them costs a fifth
of the time of a POP3 session; so the driver begins the answer where the octets arrive.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # the way in for other runners of tasks ("Extending" in its manual)
from collections.abc import Coroutine, Generator
from typing import Any


class Begun:
    """A coroutine that ran up to its first wait. Whoever awaits this waits there and goes on."""

    __slots__ = ("_coroutine", "_is_cancelled", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._is_cancelled = False

    def cancel(self) -> Begun:
        """The task was cancelled before it came to this; await it all the same, so that it can clean up."""
        self._is_cancelled = True
        if self._waits_for is not None:
            self._waits_for.cancel()
        return self

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            if self._is_cancelled:
                waits_for = coroutine.throw(asyncio.CancelledError())
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:  # a cancellation, or what the future ended with: it is the coroutine's
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration:
            return


def begin(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]
) -> Begun | None:
    """Run it as if in this task, which sleeps; None when it ended without waiting. Raises what it raises."""
    _enter_task(loop, task)
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    finally:
        _leave_task(loop, task)
    return Begun(coroutine, waits_for)
