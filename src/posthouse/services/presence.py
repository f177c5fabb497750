# SPDX-License-Identifier: Apache-2.0
"""Who is logged in for longer than a moment, and until when they may be.

Invariant: a session ends soon after its account was disabled or removed, or lost the password (or an app password)
that may have let it in; and no account has more sessions at once than the setting allows.
"""

from __future__ import annotations

from collections.abc import Callable

from posthouse.outcome import SECURITY_TRANSIENT, Refusal
from posthouse.ports import Change, ChangeBus
from posthouse.services.bounded import Bounded
from posthouse.services.directory import Account
from posthouse.store.refusal import MailboxRefusal, Reason

TOPIC = "credentials"
# Accounts whose last change is remembered, to be compared with the beginning of a login: that takes seconds at most,
# in which not so many passwords are changed.
MAX_REMEMBERED = 10_000


class Presence:
    def __init__(self, bus: ChangeBus, *, per_account: int) -> None:
        self._per_account = per_account
        self._there: dict[int, dict[int, Callable[[], None]]] = {}  # by account, by number of the session
        self._last = 0  # number of a session
        self._changes = 0
        self._changed: Bounded[int, int] = Bounded(MAX_REMEMBERED)  # by account: number of the change
        self._unsubscribe = bus.subscribe(TOPIC, 0, self._dismiss)

    def close(self) -> None:
        self._unsubscribe()

    @property
    def mark(self) -> int:
        """To be taken before a login begins, and given to `enter` after it."""
        return self._changes

    def enter(self, account: Account, mark: int, dismissed: Callable[[], None]) -> Callable[[], None]:
        """A session of this account begins; call what is returned when it ends (twice is safe). `dismissed` is called
        once when it must end.

        Raises MailboxRefusal LIMIT, and Refusal 4.7.0 where the account changed while its owner logged in.
        """
        if (self._changed.get(account.id) or 0) > mark:
            raise Refusal(SECURITY_TRANSIENT, "This account is being changed, try again")
        there = self._there.setdefault(account.id, {})
        if len(there) >= self._per_account:
            raise MailboxRefusal(Reason.LIMIT, f"this account has {self._per_account} sessions already")
        self._last += 1
        number = self._last
        there[number] = dismissed

        def leave() -> None:
            group = self._there.get(account.id)
            if group is not None:
                group.pop(number, None)
                if not group:
                    self._there.pop(account.id, None)

        return leave

    def of(self, account: int) -> int:
        """How many sessions it has."""
        return len(self._there.get(account, ()))

    def _dismiss(self, change: Change) -> None:
        self._changes += 1
        self._changed.put(change.key, self._changes)
        for dismissed in list(self._there.get(change.key, {}).values()):
            dismissed()
