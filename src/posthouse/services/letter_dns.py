# SPDX-License-Identifier: Apache-2.0
"""DNS for the checks of one letter: worked out at once where the answers are at hand, by tasks where they are not.

Most questions about a letter were asked for others before it, and a resolver has their answers without waiting. Tasks,
and the loop's turns until they have run, would then cost more than the answers.

Invariant: a text record is asked for once, and after `close` nothing that was begun is running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from posthouse.ports import IPAddress, MxRecord, Resolver

T = TypeVar("T")


class LetterDns:
    """The Resolver for one letter, and what is worked out with its answers."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._tasks: set[asyncio.Task[Any]] = set()
        self._texts: dict[str, asyncio.Future[list[bytes]]] = {}

    def begin(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Future[T]:
        """What comes of `work`, which is done already if it need not wait. If it must, it is begun anew in a task: the
        question that it was waiting for goes on, so nothing but its first steps is done twice."""
        known = at_once(work())
        if known is not None:
            return known
        task = asyncio.create_task(work())
        self._tasks.add(task)
        return task

    def ask(self, name: str) -> asyncio.Future[list[bytes]]:
        """TXT. It begins to be asked for before it is needed."""
        answer = self._texts.get(name)
        if answer is None:
            answer = self._texts[name] = self.begin(lambda: self._resolver.txt(name))
        return answer

    async def txt(self, name: str) -> list[bytes]:
        answer = self.ask(name)
        # Shielded: a check that has run out of time must not take the answer from the others.
        return answer.result() if answer.done() else await asyncio.shield(answer)

    async def mx(self, domain: str) -> list[MxRecord]:
        return await self._resolver.mx(domain)

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        return await self._resolver.addresses(host, version)

    async def names(self, address: IPAddress) -> list[str]:
        return await self._resolver.names(address)

    async def records(self, name: str, kind: str) -> list[str]:
        return await self._resolver.records(name, kind)

    async def close(self) -> None:
        """Nothing is waited for any more. To be called once."""
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # nobody may have asked for it


def at_once(work: Coroutine[Any, Any, T]) -> asyncio.Future[T] | None:
    """What comes of `work` if nothing in it has to wait, as a future that is done. None if something has: `work` is
    given up there, as one that is cancelled."""
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        done.set_result(end.value)
        return done
    except Exception as error:
        return _failed(error)
    work.close()
    if isinstance(waits_for, asyncio.Future):
        waits_for.cancel()
    return None


def _failed(error: Exception) -> asyncio.Future[Any]:
    failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    failed.set_exception(error)
    failed.exception()  # nobody may ask for it
    return failed
