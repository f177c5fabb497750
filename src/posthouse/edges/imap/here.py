# SPDX-License-Identifier: Apache-2.0
"""What one IMAP connection knows, and what every group of commands needs: who it is, what is selected, what is new.

Invariant: what is new is told before the tagged answer of the command that learned of it, and only as the engine
allows (RFC 9051 §7.5.1).
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from posthouse.edges.imap import telling
from posthouse.edges.imap.terms import ImapTerms
from posthouse.mail.number_set import NumberSet
from posthouse.outcome import INVALID_ARGUMENTS, Refusal
from posthouse.ports import Peer, TlsInfo
from posthouse.protocol.imap import codes, responses
from posthouse.protocol.imap.server import ImapServer
from posthouse.services.directory import Account
from posthouse.services.login import SaslExchange
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.selected import SelectedMailbox
from posthouse.services.mailbox.view import SelectedView
from posthouse.store.refusal import MailboxRefusal, Reason

Pieces = list[bytes | memoryview]


class Discardable(Protocol):
    async def discard(self) -> None: ...


class Here:
    def __init__(self, engine: ImapServer, peer: Peer, tls: TlsInfo | None, terms: ImapTerms) -> None:
        self.engine = engine
        self.peer = peer
        self.tls = tls
        self.terms = terms
        self.wake: Callable[[], None] = lambda: None  # makes the connection look for news
        self.interrupt: Callable[[], None] = lambda: None  # the same, idle or not
        self.is_dismissed = False  # whoever logged in is not welcome any more
        self.appended = 0  # letters, for the log
        self.mark = 0  # of `Presence`, taken when the login began
        self.exchange: SaslExchange | None = None  # an AUTHENTICATE on its way
        self.incoming: Discardable | None = None  # messages of an APPEND that has not ended
        self._account: Account | None = None
        self._selected: SelectedMailbox | None = None
        self._rest: AsyncIterator[Pieces] | None = None  # of an answer that is given piece by piece
        self._ending: Callable[[], Awaitable[None]] | None = None
        self._go: Callable[[], None] = lambda: None  # tells `Presence` that the session has ended

    # --- who --------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        assert self._account is not None, "the engine knows that somebody has logged in"
        return self._account

    @property
    def has_account(self) -> bool:
        return self._account is not None

    def enter(self, account: Account) -> None:
        """Somebody has logged in. Raises Refusal, MailboxRefusal LIMIT."""
        self._go = self.terms.presence.enter(account, self.mark, self._dismiss)
        self._account = account

    def _dismiss(self) -> None:
        self.is_dismissed = True
        self.interrupt()

    def forget(self) -> None:
        """Nobody is logged in any more (UNAUTHENTICATE)."""
        self.deselect()
        self._go()
        self._account = None

    @property
    def is_protected(self) -> bool:
        return self.tls is not None or self.terms.plaintext_auth

    async def place(self, name: str, needs: str = "") -> Place:
        """A mailbox by the name that this person has for it. Raises MailboxRefusal NONEXISTENT, NOPERM."""
        return await self.terms.places.find(self.account, name, needs)

    async def target(self, name: str, needs: str) -> Place:
        """`place` for what puts letters there: TRYCREATE where it is not there and could be made."""
        try:
            return await self.place(name, needs)
        except MailboxRefusal as refusal:
            is_missing = refusal.reason is Reason.NONEXISTENT
            if is_missing and await self.terms.places.may_create(self.account, name):
                raise MailboxRefusal(Reason.TRYCREATE, "there is no such mailbox, create it first") from refusal
            raise

    # --- the selected mailbox ---------------------------------------------------------------------

    @property
    def is_selected(self) -> bool:
        return self._selected is not None

    @property
    def selected(self) -> SelectedMailbox:
        assert self._selected is not None, "the engine knows that a mailbox is selected"
        return self._selected

    def select(self, selected: SelectedMailbox) -> None:
        self.deselect()
        self._selected = selected
        selected.on_change = self._changed
        self.count_vanished()

    def deselect(self) -> None:
        if self._selected is not None:
            self._selected.leave()
            self._selected = None

    def count_vanished(self) -> None:
        """From now on as what was enabled wants it (RFC 7162 §3.2.10.2, RFC 9586 §3.6)."""
        if self._selected is not None:
            uses_vanished = "QRESYNC" in self.engine.enabled or self.engine.is_uid_only
            self._selected.uses_vanished = uses_vanished
            if self._selected.known_view is not None:
                self._selected.known_view.uses_vanished = uses_vanished

    async def view(self) -> SelectedView:
        """With the letters of the mailbox behind it: `selected.letters` may be asked for after this."""
        return await self.selected.view()

    async def named(self, numbers: NumberSet, *, by_uid: bool) -> array[int]:
        """UIDs, growing, of the letters that a command names. UIDs that nobody knows are passed over (RFC 9051 §6.4.9);
        raises Refusal 5.5.4 for numbers of no letter."""
        view = await self.view()
        if by_uid:
            return view.by_uids(numbers)
        if not view.has_numbers(numbers):
            raise Refusal(INVALID_ARGUMENTS, "there is no message with such a number")
        return view.by_numbers(numbers)

    # --- news -------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self.wake()

    async def refresh(self, *, is_asked: bool = False) -> None:
        """Learn what is new in the selected mailbox, if there is anything; `is_asked`: the client wants to know."""
        if self._selected is not None and (is_asked or self._selected.is_stale):
            await self._selected.refresh()

    async def look(self, *, is_asked: bool = False) -> None:
        """`refresh` before letters are told. Of a mailbox that has gone, or that the person may not read any more,
        nothing is told: the session ends. Raises MailboxRefusal NONEXISTENT."""
        await self.refresh(is_asked=is_asked)
        if self.selected.is_gone:
            self.tell()
            raise MailboxRefusal(Reason.NONEXISTENT, "the mailbox has gone")

    def tell(self) -> None:
        """What was learned and not told yet. Before a tagged answer, or while the client is idle."""
        selected = self._selected
        if selected is None:
            return
        if selected.is_gone:
            self.engine.bye("The mailbox has been deleted")
            return
        self.engine.tell(telling.news(selected, self.engine))
        selected.settle()

    async def news(self, *, is_asked: bool = False) -> None:
        """`refresh` and `tell`: what most commands do before their tagged answer."""
        await self.refresh(is_asked=is_asked)
        self.tell()

    def want_modseq(self) -> None:
        """The client has said something that belongs to CONDSTORE alone: that enables it (RFC 7162 §3.1)."""
        if "CONDSTORE" not in self.engine.enabled:
            self.engine.enable(("CONDSTORE",))
            self.tell_modseq()

    def tell_modseq(self) -> None:
        """RFC 7162 §3.1: a client that asks for it within a mailbox was not told where it stands."""
        if self._selected is not None:
            code = codes.highest_modseq(self._selected.modseq)
            self.engine.tell([responses.ok("The highest mod-sequence", code)])

    # --- long answers -----------------------------------------------------------------------------

    async def stream(self, pieces: AsyncIterator[Pieces], ending: Callable[[], Awaitable[None]]) -> None:
        """Answer piece by piece; others have their turn between the pieces, and no more than one is held. `ending`
        gives the tagged answer."""
        self._rest, self._ending = pieces, ending
        await self.go_on()

    async def go_on(self) -> None:
        """The next piece; the engine asks for it (event More)."""
        assert self._rest is not None
        assert self._ending is not None
        try:
            part = await anext(self._rest)
        except StopAsyncIteration:
            ending = self._ending
            self.drop_rest()
            await ending()
        except BaseException:
            self.drop_rest()
            raise
        else:
            self.engine.more(part)

    def drop_rest(self) -> None:
        self._rest = self._ending = None

    async def closed(self) -> None:
        self.deselect()
        self._go()
        self.drop_rest()
        if self.incoming is not None:
            incoming, self.incoming = self.incoming, None
            await incoming.discard()


Handler = Callable[[Here, Any], Awaitable[None]]
Handlers = Mapping[type, Handler]
