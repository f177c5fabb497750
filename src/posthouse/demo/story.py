# SPDX-License-Identifier: Apache-2.0
"""The story of a letter, step by step; each step is checked, and the first that fails ends it with its name."""

from __future__ import annotations

import asyncio
import contextlib
import poplib
import shutil
import smtplib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx2
from rich.console import Console

from posthouse.demo import programs
from posthouse.demo.programs import LoginRefused
from posthouse.demo.servers import DemoServer, Pace, ServerFault, free_ports
from posthouse.demo.stage import Stage
from posthouse.edges.cli.backend import Stop
from posthouse.net.clock import SystemClock

ALICE, BOB, CAROL = "alice@alice.test", "bob@bob.test", "carol@gone.test"
ALICES_WORDS, BOBS_WORDS = "Alice likes letters", "Bob reads them all"
QUICK = Pace(("1s",), expire="2m", given_up="4s")
HUMAN = Pace(("3s", "5s"), expire="10m", given_up="20s")
ATTEMPTS_SHOWN = 2  # of --once, before Bob's server comes; people see one more
POLL = 0.2  # seconds between looks at the queue
PATIENCE = 60.0  # seconds for what happens within 25 by plan: small machines are slow

TO_BOB = """\
Dear Bob,

your server was down when I wrote this. Mine has kept it for you.

Alice
"""
TO_CAROL = """\
Dear Carol,

are you still there?

Alice
"""


class StepFailed(Exception):  # noqa: N818 - what the audience is told
    """The story did not come true; the text says what went otherwise."""


# What can go wrong on this stage: the checks, the servers, the mail programs, the admin API.
FAULTS = (
    StepFailed,
    ServerFault,
    LoginRefused,
    Stop,
    OSError,
    smtplib.SMTPException,
    poplib.error_proto,
    httpx2.HTTPError,
)


def play(once: bool) -> int:
    """0: it came true. 1: a step failed, and the servers' logs are kept. 130: somebody pressed Ctrl-C."""
    folder = Path(mkdtemp(prefix="posthouse-demo-"))
    stage = Stage(Console(highlight=False), SystemClock())
    story = Story(stage, folder, is_quick=once)
    is_kept = False
    try:
        asyncio.run(story.run())
    except KeyboardInterrupt:
        stage.say("stopped by Ctrl-C; both servers are down", style="yellow")
        return 130
    except FAULTS as fault:
        is_kept = True
        stage.bad(f"{story.step}: {str(fault) or 'no answer in time'}")
        stage.say(f"the servers' logs are kept in {folder}")
        return 1
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


class Story:
    """`step` names what is being done, for whoever has to say what failed."""

    def __init__(self, stage: Stage, folder: Path, *, is_quick: bool) -> None:
        self.step = "preparation"
        self._stage = stage
        self._is_quick = is_quick
        self._pace = QUICK if is_quick else HUMAN
        self._told: dict[str, int] = {}  # attempts shown, by Message-ID
        alices, bobs, self._nobodys = free_ports(3)
        self._alices = DemoServer("alice.test", ALICE, ALICES_WORDS, folder / "alice", alices)
        self._bobs = DemoServer("bob.test", BOB, BOBS_WORDS, folder / "bob", bobs)

    async def run(self) -> None:
        stage = self._stage
        stage.title("posthouse: the story of a letter. Two real servers, on this machine's loopback only.")
        async with self._servers():
            await self._prepare()
            await self._submit()
            await self._wait_in_queue()
            await self._arrive()
            await self._read()
            await self._come_back()
            self.step = "the end"
            stage.title("The story came true: nothing was lost, and everybody knows what became of their letters.")
            await self._pause(1)

    @contextlib.asynccontextmanager
    async def _servers(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.gather(self._alices.stop(), self._bobs.stop())

    # --- the scenes -------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        stage, alices, bobs = self._stage, self._alices, self._bobs
        self._begin("Alice has a mail server, and Bob has one")
        with stage.waiting("making two data directories"):
            routes = {"bob.test": bobs.smtp, "gone.test": self._nobodys}
            await asyncio.to_thread(alices.found, self._pace, routes, ["gone.test"])
            await asyncio.to_thread(bobs.found, self._pace, {"alice.test": alices.smtp})
            await alices.start()
        stage.good(
            f"{alices.hostname} serves {alices.domain}: SMTP on port {alices.smtp}, submission on"
            f" {alices.ports['submission']}, POP3 on {alices.ports['pop3s']}"
        )
        stage.say(f"✗ {bobs.hostname} is down: nothing listens on port {bobs.smtp}", style="yellow")
        await self._pause(3)

    async def _submit(self) -> None:
        self._begin("Alice's mail program hands her letter to her own server")
        letter = programs.write_letter(ALICE, BOB, "The mail must get through", TO_BOB, "to-bob")
        self._stage.letter(letter, "Alice writes")
        answer = await asyncio.to_thread(programs.submit, self._alices.ports["submission"], ALICES_WORDS, letter)
        self._stage.good(f"over TLS and with her password; the server has it, durably: {answer}")
        await self._pause(3)

    async def _wait_in_queue(self) -> None:
        self._begin("Bob's server is down, so the letter waits in Alice's queue")
        times = ", then every ".join(self._pace.retry)
        self._stage.say(f"the schedule of this demo: after {times}; by default 1, 5, 15, then every 30 minutes")
        wanted = ATTEMPTS_SHOWN + (not self._is_quick)
        await self._follow("to-bob@alice.test", lambda story: len(story["attempts"]) >= wanted)
        (waiting,) = await self._alices.queue(BOB)
        self._check(waiting["states"] == {"due": 1}, f"the queue says {waiting['states']}, not that it is due")
        self._check(not await self._has_letters(self._alices), "Alice was told something already")

    async def _arrive(self) -> None:
        stage = self._stage
        self._begin("Bob's server comes up")
        with stage.waiting("starting it"):
            await self._bobs.start()
        stage.good(f"{self._bobs.hostname} listens on port {self._bobs.smtp}")
        story = await self._follow("to-bob@alice.test", lambda story: story["finished_at"] is not None)
        (recipient,) = story["recipients"]
        self._check(recipient["state"] == "delivered", f"the letter ended as {recipient['state']}")
        stage.good("delivered: the letter is in Bob's mailbox, and no longer in Alice's queue")
        self._check(not await self._alices.queue(""), "something is left in Alice's queue")
        await self._pause(3)

    async def _read(self) -> None:
        stage, port = self._stage, self._bobs.ports["pop3s"]
        self._begin("Bob proves who he is, and reads it")
        try:
            await asyncio.to_thread(programs.read_mailbox, port, BOB, "a wrong password")
        except LoginRefused as refused:
            stage.good(f"with a wrong password he is refused: {refused}")
        else:
            raise StepFailed("a wrong password opened Bob's mailbox")
        await self._pause(2)
        letters = await asyncio.to_thread(programs.read_mailbox, port, BOB, BOBS_WORDS)
        self._check(len(letters) == 1, f"Bob has {len(letters)} letters instead of one")
        self._check(programs.first_text(letters[0]) == TO_BOB.strip(), "the letter is not what Alice wrote")
        stage.good("with his own he has one letter:")
        stage.letter(letters[0], "Bob reads, over POP3")
        await self._pause(5)

    async def _come_back(self) -> None:
        stage = self._stage
        self._begin("Alice writes to a server that never comes back")
        letter = programs.write_letter(ALICE, CAROL, "Are you there?", TO_CAROL, "to-carol")
        answer = await asyncio.to_thread(programs.submit, self._alices.ports["submission"], ALICES_WORDS, letter)
        stage.good(f"her server has it: {answer}")
        stage.say(f"for this destination it gives up after {self._pace.given_up}; by default after 5 days")
        story = await self._follow("to-carol@alice.test", lambda story: story["finished_at"] is not None)
        self._check(story["recipients"][0]["state"] == "expired", f"it ended as {story['recipients'][0]['state']}")
        letters = await asyncio.to_thread(programs.read_mailbox, self._alices.ports["pop3s"], ALICE, ALICES_WORDS)
        self._check(len(letters) == 1, f"Alice has {len(letters)} letters instead of one report")
        report = letters[0]
        self._check(report.get_content_type() == "multipart/report", f"it is a {report.get_content_type()}")
        self._check(CAROL in programs.first_text(report), "the report does not name Carol")
        stage.good("the letter has left the queue, and Alice's mailbox has another one that says why:")
        stage.letter(report, "Alice reads")
        self._check(not await self._alices.queue(""), "something is left in Alice's queue")
        await self._pause(3)

    # --- how scenes are played --------------------------------------------------------------------

    def _begin(self, step: str) -> None:
        self.step = step
        self._stage.scene(step)

    def _check(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            raise StepFailed(otherwise)

    async def _pause(self, seconds: float) -> None:
        """Time for people to read."""
        if not self._is_quick:
            await asyncio.sleep(seconds)

    async def _follow(self, message_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Show each attempt to send a letter as it happens, until the letter's story is as wanted."""
        with self._stage.waiting("the letter waits in the queue"):
            async with asyncio.timeout(PATIENCE):
                while True:
                    story = await self._alices.trace(message_id)
                    told = self._told.get(message_id, 0)
                    for attempt in story["attempts"][told:]:
                        self._tell(attempt)
                    self._told[message_id] = len(story["attempts"])
                    if until(story):
                        return story
                    await asyncio.sleep(POLL)

    def _tell(self, attempt: dict[str, Any]) -> None:
        outcome, _recipients = attempt["results"][0]
        where = f"{attempt['next_hop']} at {attempt['host'] or attempt['address']}"
        self._stage.say(f"→ tried {where}: {outcome['diagnostic']}", at=attempt["at"], style="yellow")

    async def _has_letters(self, server: DemoServer) -> bool:
        return bool(await asyncio.to_thread(programs.read_mailbox, server.ports["pop3s"], server.user, server.password))
