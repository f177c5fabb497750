# SPDX-License-Identifier: Apache-2.0
"""An asyncio event loop on virtual time: when nothing is ready it jumps to the next timer.

Invariant: what runs next depends on what was asked for and in which order, on nothing else: no real time, no
threads, no sockets. Whatever belongs to a `Life` runs in its context and never again once that life has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# Callbacks within one instant. A busy instant of two servers has some thousands; more is a circle that no time
# breaks, and would never end.
MAX_STEPS = 500_000
# A coroutine that waits inside its own clean-up is closed again, so often at most.
MAX_CLOSES = 20

_LIFE: ContextVar[Life] = ContextVar("life")
OUTSIDE = Context()  # of nobody's life


class Deadlock(RuntimeError):  # noqa: N818 - the world's own word for it
    """Nothing is ready and no timer runs: everybody waits for ever. The text names who."""


class Life:
    """One run of one program in the world, from its start to its end or crash.

    All its tasks and callbacks carry it in their context. `address` is where its connections come from.
    """

    __slots__ = ("address", "context", "is_alive", "name", "tasks")

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.is_alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order of their birth
        self.context = Context()
        self.context.run(_LIFE.set, self)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def current_life() -> Life | None:
    """Whose code is running; None for the world's own."""
    return _LIFE.get(None)


class Handle:
    """A callback to run, at once or at a time, unless it was cancelled or its life has ended by then.

    What asyncio asks of a TimerHandle, without its bookkeeping: a world makes tens of thousands of them.
    """

    __slots__ = ("_args", "_callback", "_context", "_loop", "_when", "is_cancelled", "life")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: WorldLoop, context: Context
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self.life = context.get(_LIFE)
        self.is_cancelled = False

    def __repr__(self) -> str:
        return f"<{self._callback} of {self.life or 'the world'}>"

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def run(self) -> None:
        try:
            self._context.run(self._callback, *self._args)
        except Exception as error:
            self._loop.call_exception_handler({"message": f"a callback failed: {self!r}", "exception": error})


class Net(Protocol):
    """What the loop asks of the network."""

    def listen(self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> asyncio.AbstractServer: ...

    async def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]: ...


class WorldLoop(asyncio.AbstractEventLoop):
    """`network` connects what runs on it. `faults`: what no task took care of."""

    network: Net

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0  # of timers: equal times keep their order
        self._steps = 0
        self._is_running = False
        self._is_closed = False
        self._tasks: dict[asyncio.Task[Any], Life | None] = {}

    # --- running ----------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done. Raises Deadlock."""
        task = self.create_task(main, name="main")
        asyncio._set_running_loop(self)  # noqa: SLF001 - what every event loop does
        self._is_running = True
        try:
            self._run_until(task)
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)  # noqa: SLF001 - as above
        return task.result()

    def _run_until(self, task: asyncio.Task[Any]) -> None:
        ready, done = self._ready, task.done
        while not done():
            if not ready:
                self._jump()
            handle = ready.popleft()
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise RuntimeError(f"no time passes: {handle!r} is the {MAX_STEPS}th callback of this instant")
            if not handle.is_cancelled and (handle.life is None or handle.life.is_alive):
                handle.run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and (timers[0][2].is_cancelled or not _lives(timers[0][2])):
            heapq.heappop(timers)
        if not timers:
            raise Deadlock(self._who_waits())
        if timers[0][0] > self._now:
            self._now = timers[0][0]
            self._steps = 0
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])

    def _who_waits(self) -> str:
        waiting = [f"{task.get_coro()} of {life or 'the world'}" for task, life in self._tasks.items()]
        return "nothing is ready and no timer runs; waiting: " + ("; ".join(waiting) or "nobody")

    def end(self, life: Life) -> None:
        """That life is over, as by kill -9: nothing of it runs any more. Also when nobody runs this loop at the moment:
        clean-up that begins a task begins it here, and nowhere else."""
        life.is_alive = False
        running = asyncio._get_running_loop()  # noqa: SLF001 - what every event loop does
        asyncio._set_running_loop(self)  # noqa: SLF001 - as above
        try:
            self._close_all(life)
        finally:
            asyncio._set_running_loop(running)  # noqa: SLF001 - as above

    def _close_all(self, life: Life) -> None:
        while life.tasks:
            # Closing runs `finally` blocks in memory that nobody will look at; ports of an ended life do nothing,
            # and tasks that clean-up begins end here too. Left alone, the garbage collector would do the same,
            # some time, and complain.
            task = next(iter(life.tasks))
            self._forget(task)
            with contextlib.suppress(AttributeError):  # the C task has it, another implementation may not
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio's own way
            life.context.run(_close, task.get_coro())

    def timers(self, life: Life) -> list[Handle]:
        """What that life still waits for, in no order."""
        return [each for _, _, each in self._timers if each.life is life and not each.is_cancelled]

    # --- time and callbacks -----------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]  # see Handle
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(self._now, callback, args, self, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there are no threads

    def call_later(  # type: ignore[override]  # as call_soon, simpler typed
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as call_soon, simpler typed
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(when, callback, args, self, copy_context() if context is None else context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    # --- tasks and futures ------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # later versions of Python pass more keywords
        self, coro: Coroutine[Any, Any, T], *, context: Context | None = None, **options: Any
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, context=context, **options)
        life = (context or copy_context()).get(_LIFE)
        self._tasks[task] = life
        if life is not None:
            life.tasks[task] = None
        task.add_done_callback(self._forget, context=OUTSIDE)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        life = self._tasks.pop(task, None)
        if life is not None:
            life.tasks.pop(task, None)

    def run_in_executor(  # type: ignore[override]  # threads would need real time
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """At once, in the only thread there is."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # --- the network ------------------------------------------------------------------------------

    async def create_server(  # type: ignore[override]  # there are no sockets, and no TLS but the world's
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_options: Any
    ) -> asyncio.AbstractServer:
        return self.network.listen(protocol_factory, host, port)

    async def create_connection(  # type: ignore[override]  # as create_server
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return await self.network.connect(protocol_factory, host, port)

    # --- the rest of what asyncio asks of a loop --------------------------------------------------

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.faults.append(f"{context.get('message')}: {error!r}")


def _lives(handle: Handle) -> bool:
    return handle.life is None or handle.life.is_alive


def _close(coroutine: Any) -> None:
    for _ in range(MAX_CLOSES):
        try:
            coroutine.close()
        except Exception:  # noqa: S112 - it waited again, or its clean-up failed: both are over with it
            continue
        return
