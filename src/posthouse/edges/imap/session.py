# SPDX-License-Identifier: Apache-2.0
"""ImapSession: events of the engine to the groups of commands, outcomes to answers.

Invariant: every event is answered exactly once, whatever goes wrong; what was selected or begun is let go at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from posthouse.edges.imap import (
    appending,
    copying,
    fetching,
    folders,
    listing,
    opening,
    searching,
    selecting,
    sharing,
    storing,
)
from posthouse.edges.imap.here import Handlers, Here
from posthouse.edges.imap.terms import ImapTerms
from posthouse.outcome import AUTH_FAILED, ENCRYPTION_REQUIRED, INVALID_ARGUMENTS, Refusal
from posthouse.ports import DamagedContent, Peer, StoreFault, TlsInfo
from posthouse.protocol.imap import codes, events
from posthouse.protocol.imap.server import ImapServer
from posthouse.protocol.imap.table import State
from posthouse.store.refusal import MailboxRefusal

MAX_TARPIT = 10.0  # seconds; see edges/smtp.py
DISMISSED = "The account or its password was changed, log in again"


async def _refused(here: Here, event: events.CommandError) -> None:
    if here.incoming is not None:
        incoming, here.incoming = here.incoming, None
        await incoming.discard()
    if event.forgets_saved:
        searching.forget_saved(here)
    here.engine.refuse(event)


async def _more(here: Here, _event: events.More) -> None:
    await here.go_on()


async def _disconnected(here: Here, _event: events.Disconnected) -> None:
    return


HANDLERS: Handlers = {
    **appending.HANDLERS,
    **copying.HANDLERS,
    **fetching.HANDLERS,
    **folders.HANDLERS,
    **listing.HANDLERS,
    **opening.HANDLERS,
    **searching.HANDLERS,
    **selecting.HANDLERS,
    **sharing.HANDLERS,
    **storing.HANDLERS,
    events.CommandError: _refused,
    events.More: _more,
    events.Disconnected: _disconnected,
}

# Commands, by the event that ends each; what comes in between is not counted.
COUNTED: dict[type, str] = {
    each: each.__name__.lower()
    for each in HANDLERS
    if each
    not in (
        events.Opened,
        events.AuthResponse,
        events.MessageStart,
        events.MessageChunk,
        events.IdleDone,
        events.More,
        events.Disconnected,
    )
} | {
    events.AuthStart: "authenticate",
    events.AppendEnd: "append",
    events.ReplaceEnd: "replace",
    events.CommandError: "refused",
}


class ImapSession:
    """Implements `net.session.Session`, and `Wakeful`."""

    def __init__(self, engine: ImapServer, peer: Peer, tls: TlsInfo | None, terms: ImapTerms) -> None:
        self.engine = engine
        self._here = Here(engine, peer, tls, terms)
        self._terms = terms
        self._errors = 0
        self._commands = 0
        self._began = terms.clock.monotonic()
        terms.metrics.sessions.labels("imap").inc()
        terms.metrics.open_sessions.labels("imap").inc()

    def secured(self, tls: TlsInfo) -> None:
        self._here.tls = tls

    def watch(self, wake: Callable[[], None]) -> None:
        """`wake` makes the connection call `woken` soon."""

        def wake_if_idle() -> None:
            if self.engine.state is State.IDLING:
                wake()

        self._here.wake = wake_if_idle
        self._here.interrupt = wake

    async def woken(self) -> None:
        if self._here.is_dismissed:
            self.engine.bye(DISMISSED, codes.EXPIRED)
            return
        if self.engine.state is not State.IDLING:
            return
        try:
            await selecting.woken(self._here)
        except StoreFault as fault:  # the next change, or DONE, asks again
            self._terms.log.error("store failed", trace=self._here.peer.trace, reason=str(fault))

    async def closed(self) -> None:
        terms, here = self._terms, self._here
        terms.metrics.open_sessions.labels("imap").dec()
        if here.has_account:
            seconds = round(terms.clock.monotonic() - self._began, 1)
            terms.log.info(
                "session ended",
                trace=here.peer.trace,
                account=here.account.name,
                commands=self._commands,
                appended=here.appended,
                seconds=seconds,
            )
        await here.closed()

    async def answer(self, event: events.Event) -> None:
        here, engine = self._here, self.engine
        if here.is_dismissed:
            engine.bye(DISMISSED, codes.EXPIRED)
            return
        name = COUNTED.get(event.__class__)
        if name is not None:
            self._commands += 1
            self._terms.metrics.imap_commands.labels(name).inc()
        try:
            await HANDLERS[event.__class__](here, event)
        except MailboxRefusal as refusal:
            engine.no(_sentence(refusal.text), refusal.reason.value)
        except Refusal as refusal:
            await self._refuse(refusal)
        except DamagedContent as damage:
            # Nothing else is ever sent in its place.
            self._terms.log.error("letter damaged", trace=here.peer.trace, reason=str(damage))
            engine.no("A letter is damaged on the server, tell its postmaster", codes.CONTACTADMIN)
        except StoreFault as fault:
            self._terms.log.error("store failed", trace=here.peer.trace, reason=str(fault))
            engine.no("A fault of this server, try again later", codes.UNAVAILABLE)

    async def _refuse(self, refusal: Refusal) -> None:
        """NO or BAD; who collects them before login waits longer each time, and is sent away in the end."""
        here, terms = self._here, self._terms
        code = _code(refusal)
        if here.has_account:
            self._say(refusal, code)
            return
        self._errors += 1
        terms.log.info("refused", trace=here.peer.trace, peer=here.peer.address, code=code, text=refusal.text)
        if self._errors > terms.tarpit_after:
            await asyncio.sleep(min(self._errors - terms.tarpit_after, MAX_TARPIT))
        self._say(refusal, code)
        if self._errors >= terms.close_after:
            self.engine.bye("Too many errors, closing")

    def _say(self, refusal: Refusal, code: str) -> None:
        if code == codes.CLIENTBUG:
            self.engine.bad(_sentence(refusal.text), code)
        else:
            self.engine.no(_sentence(refusal.text), code)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _code(refusal: Refusal) -> str:
    """RFC 5530 §3."""
    status = refusal.status
    if status == AUTH_FAILED:
        return codes.AUTHENTICATIONFAILED
    if status == ENCRYPTION_REQUIRED:
        return codes.PRIVACYREQUIRED
    if status == INVALID_ARGUMENTS:
        return codes.CLIENTBUG
    if status.is_transient:
        return codes.UNAVAILABLE
    if status.subject == 7:
        return codes.AUTHORIZATIONFAILED
    return codes.CANNOT
