# SPDX-License-Identifier: Apache-2.0
"""How a strange mail server behaves: what it offers, and what it does wrong at which step and how often.

Invariant: manners are a value; what was drawn from the same chance is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random

# RFC 6647 §5: "from 1 minute to 24 hours"; five minutes are the custom.
GREYLIST_SECONDS = 300.0


class Stage(Enum):
    """Where in a session something may go wrong: before the answer to that command."""

    GREETING = auto()
    EHLO = auto()
    STARTTLS = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BDAT = auto()  # at the command: nothing of the chunk was read, and what follows is taken for commands
    CONTENT = auto()  # while the content comes
    END = auto()  # after the final dot, or after BDAT … LAST
    RSET = auto()
    QUIT = auto()


@dataclass(frozen=True, slots=True)
class Say:
    """This reply instead of the usual one; the command has no effect. 421 closes the connection after it."""

    reply: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer (in the middle of the content: read on) as usual, but so many seconds later."""

    seconds: float


class Trick(Enum):
    """Everything else that a server can do instead of its answer."""

    DROP = auto()  # reset the connection
    CLOSE = auto()  # close it without a word
    IGNORE = auto()  # never answer, and stop reading
    KEEP_AND_DROP = auto()  # END: the letter is kept, then the connection is reset; elsewhere as DROP
    KEEP_AND_CLOSE = auto()  # the same, and the connection is closed
    # Wrong replies. The command has its effect all the same, at END too.
    CODES_DIFFER = auto()
    NO_LAST_LINE = auto()
    GARBAGE = auto()
    LONG_LINE = auto()
    BARE_LF = auto()
    TWO_REPLIES = auto()
    SUCCESS_OF_NOTHING = auto()  # 214, a success that answers no command of a mail transaction
    BINARY = auto()
    ENDLESS = auto()  # a thousand lines


Act = Say | Wait | Trick


@dataclass(frozen=True, slots=True)
class Habit:
    """`act` at `stage`, each time with that chance, so many times in all (None: for ever)."""

    stage: Stage
    act: Act
    chance: float = 1.0
    times: int | None = None


EVERYTHING = (
    "PIPELINING",
    "SIZE 50000000",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "STARTTLS",
)


@dataclass(frozen=True, slots=True)
class Manners:
    """`extensions`: what EHLO offers. `has_ehlo`: else EHLO is 502. `greylist`: seconds for which the first try of
    a client, sender and recipient is put off; None: not at all. `delay`: seconds before each reply. `is_dribbling`:
    replies leave octet by octet. `has_good_tls`: else every handshake fails. `takes_data_for_nobody`: DATA is 354
    though every recipient was refused, and what then comes is kept, for no recipients."""

    habits: tuple[Habit, ...] = ()
    extensions: tuple[str, ...] = EVERYTHING
    has_ehlo: bool = True
    greylist: float | None = None
    delay: float = 0.0
    is_dribbling: bool = False
    has_good_tls: bool = True
    takes_data_for_nobody: bool = False
    refused: tuple[str, ...] = field(default=("nobody",))  # local-parts that are 550 5.1.1


GOOD = Manners()

_TEMPORARY = ("450 4.2.0 not now", "451 4.3.0 try later", "452 4.3.1 disk full", "421 4.3.2 closing", "451 later")
_PERMANENT = ("550 5.7.1 not welcome", "554 5.0.0 no", "552 5.3.4 too big", "550 no", "500 what")
_LATE = (1.0, 20.0, 110.0, 290.0, 590.0, 1200.0)  # seconds: under and over the limits of RFC 5321 §4.5.3.2
_STAGES = tuple(Stage)
_TRICKS = tuple(Trick)


def draw(chance: Random, *, is_kind: bool = False) -> Manners:
    """Manners by chance. `is_kind`: nothing that refuses a letter for good."""
    habits = tuple(_habit(chance, is_kind=is_kind) for _ in range(chance.choice((0, 1, 1, 2, 3))))
    return Manners(
        habits=habits,
        extensions=tuple(each for each in EVERYTHING if chance.random() < 0.7),
        has_ehlo=chance.random() < 0.9,
        greylist=GREYLIST_SECONDS if chance.random() < 0.2 else None,
        delay=chance.choice((0.0, 0.0, 0.0, 2.0, 30.0)),
        is_dribbling=chance.random() < 0.1,
        has_good_tls=chance.random() < 0.85,
        takes_data_for_nobody=chance.random() < 0.3,
    )


def _habit(chance: Random, *, is_kind: bool) -> Habit:
    kind = chance.random()
    act: Act
    if kind < 0.35:
        act = Say(chance.choice(_TEMPORARY))
    elif kind < 0.45:
        act = Say(chance.choice(_TEMPORARY if is_kind else _PERMANENT))
    elif kind < 0.6:
        act = Wait(chance.choice(_LATE))
    else:
        act = chance.choice(_TRICKS)
    # Always the same at every try would only mean that nothing ever arrives; that too happens, seldom.
    often = 1.0 if chance.random() < 0.1 else chance.uniform(0.1, 0.7)
    return Habit(chance.choice(_STAGES), act, often, chance.choice((None, None, 1, 3, 10)))
