# SPDX-License-Identifier: Apache-2.0
"""IMAP: what sessions, lists, letters, flags, searches and deliveries cost, beside Dovecot."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from bench import imap_idle, imap_null, imap_sync
from bench.cells import CEILING, US, Cell, Family, Measure, Target, Task
from bench.imap_load import Loader
from bench.imap_scripts import SCRIPTS, Load
from bench.peers import DOMAIN, PEERS, Setup

KIB = 1024
MOST_TURNS = 20_000  # of one burst: each session leaves a port in TIME_WAIT for a minute
MOST_APPENDED = 400 << 20  # octets of one burst
DEFAULT, FAST = "Dovecot", "Dovecot, high-performance mode"
# Within a session both modes of Dovecot do the same; they differ in what a login costs.
SESSIONS_OF = (US, DEFAULT, FAST)
COMMANDS_OF = (US, DEFAULT)


@dataclass(frozen=True, slots=True)
class Shape:
    script: str  # of bench.imap_scripts
    at_once: int
    letters: int
    octets: int = KIB


def rate(title: str) -> Measure:
    return Measure("rate", title, "/s")


def milliseconds(key: str, title: str) -> Measure:
    return Measure(key, title, "ms", is_more_better=False)


def cpu(what: str) -> Measure:
    return milliseconds("cpu_ms", f"CPU of {what}")


def aim(key: str, ratio: float) -> tuple[Target, ...]:
    return (Target(DEFAULT, key, ratio),)


LETTERS = Measure("letters_s", "letters told", "/s")
READING = Measure("mib_s", "letters read", "MiB/s")
READ = Measure("letters_s", "letters read", "/s")
SEARCHED = Measure("letters_s", "letters searched", "/s")
CHANGED = Measure("letters_s", "letters changed", "/s")
CLIENT = milliseconds("client_cpu_ms", "CPU of the load client")
P50 = milliseconds("p50_ms", "one command, median")
P99 = milliseconds("p99_ms", "99 of 100 within")
FIRST = Measure("first_s", "the first time", "s", is_more_better=False)
APPENDED = (rate("letters"), cpu("a letter"), P50, P99)
SELECTED = (
    milliseconds("p50_ms", "SELECT, median"),
    milliseconds("first_ms", "the first time"),
    cpu("a session"),
)
SELECT_MOST = 100.0  # milliseconds


ROWS: tuple[tuple[Shape, Cell], ...] = (
    (
        Shape("sessions", 10, 100),
        Cell(
            "LOGIN, SELECT, LOGOUT, 10 at once",
            (rate("sessions"), cpu("a session"), CLIENT),
            1,
            (*SESSIONS_OF, CEILING),
            aim("rate", 5),
        ),
    ),
    (
        Shape("envelopes", 4, 1000, 2 * KIB),
        Cell(
            "LOGIN, SELECT, envelopes of 1,000 letters, 4 at once",
            (LETTERS, cpu("a session"), CLIENT),
            1,
            (*SESSIONS_OF, CEILING),
            aim("letters_s", 2.5),
        ),
    ),
    (
        Shape("envelopes", 1, 100_000),
        Cell(
            "LOGIN, SELECT, envelopes of 100,000 letters",
            (LETTERS, cpu("a session"), FIRST, CLIENT),
            4,
            COMMANDS_OF,
            aim("letters_s", 2.5),
            overhead=100,  # a hundred thousand files are made and removed
            most_rounds=2,
        ),
    ),
    (
        Shape("flags", 4, 10_000),
        Cell(
            "FETCH FLAGS of 10,000 letters, 4 at once",
            (LETTERS, cpu("a FETCH"), CLIENT),
            2,
            (*COMMANDS_OF, CEILING),
            aim("letters_s", 1),
            overhead=12,
        ),
    ),
    (
        Shape("bodies", 4, 1000, 10 * KIB),
        Cell(
            "FETCH BODY[] of 1,000 letters of 10 KiB, 4 at once",
            (READING, READ, cpu("a FETCH"), CLIENT),
            2,
            (*COMMANDS_OF, CEILING),
            aim("mib_s", 2),
        ),
    ),
    (
        Shape("store one", 1, 1000),
        Cell(
            "STORE +FLAGS of one letter of 1,000",
            (rate("STOREs"), cpu("a STORE"), P50, P99),
            3,
            COMMANDS_OF,
            aim("rate", 1.5),
        ),
    ),
    (
        Shape("store all", 1, 10_000),
        Cell(
            "STORE 1:* +FLAGS of 10,000 letters",
            (CHANGED, cpu("a STORE"), P50),
            3,
            COMMANDS_OF,
            aim("letters_s", 2),
            overhead=8,
        ),
    ),
    (
        Shape("append", 1, 0, 10 * KIB),
        Cell("APPEND of 10 KiB, 1 session", APPENDED, 2, COMMANDS_OF, aim("rate", 2)),
    ),
    (
        Shape("append", 10, 0, 10 * KIB),
        Cell("APPEND of 10 KiB, 10 sessions", APPENDED, 2, COMMANDS_OF, aim("rate", 2)),
    ),
    (
        Shape("search", 1, 10_000, 10 * KIB),
        Cell(
            "SEARCH TEXT in 10,000 letters of 10 KiB",
            (SEARCHED, cpu("a SEARCH"), P50, FIRST),
            2,
            COMMANDS_OF,
            aim("letters_s", 3),
            overhead=15,
        ),
    ),
    (
        Shape("select", 1, 100_000),
        Cell(
            "SELECT of 100,000 letters",
            SELECTED,
            3,
            COMMANDS_OF,
            (Target("", "p50_ms", SELECT_MOST), Target("", "first_ms", SELECT_MOST)),
            overhead=80,
            most_rounds=2,
        ),
    ),
    (
        Shape("select", 1, 1_000_000),
        Cell("SELECT of 1,000,000 letters", SELECTED, 9, (US,), overhead=150, most_rounds=1),
    ),
)
SHAPES = {cell.name: shape for shape, cell in ROWS}
QUICK_LETTERS = 10_000  # a try-out has no larger mailboxes


def run(task: Task) -> dict[str, float]:
    if task.cell.name in imap_idle.NAMES:
        return imap_idle.run(task)
    if task.cell.name == imap_sync.CELL.name:
        return imap_sync.run(task)
    shape = SHAPES[task.cell.name]
    letters = min(shape.letters, QUICK_LETTERS) if task.is_quick else shape.letters
    load = Load(0, shape.script, shape.at_once, letters, shape.octets)
    with contextlib.ExitStack() as stack:
        if task.peer == CEILING:
            return measure(load.at(stack.enter_context(imap_null.running(load))), lambda: 0.0, task)
        peer = PEERS[task.peer]()
        stack.callback(peer.stop)
        users = tuple(f"user{lane}@{DOMAIN}" for lane in range(shape.at_once))
        setup = Setup(users=users, wants_imap=True, letters=letters, octets=shape.octets)
        peer.start(task.folder / "s", setup)
        return measure(load.at(peer.imap_port), peer.cpu_seconds, task)


def measure(load: Load, cpu_seconds: Callable[[], float], task: Task) -> dict[str, float]:
    """The mailboxes are checked, which fills caches; bursts tell the pace; then the one that is measured."""
    script = SCRIPTS[load.script](load)
    first = script.prepare()
    loader = Loader(script)
    most = min(MOST_TURNS, MOST_APPENDED // load.octets) if load.script == "append" else MOST_TURNS
    turns = load.at_once
    for share in () if task.is_quick else (0.1, 0.4, 1.0):
        seconds = loader.burst(turns)["seconds"]
        turns = max(load.at_once, min(most, round(turns / seconds * task.seconds * share)))
    cpu = cpu_seconds()
    found = loader.burst(turns)
    used = cpu_seconds() - cpu
    script.verify()
    turns_s = turns / found["seconds"]
    return {
        **first,
        **found,
        "rate": turns_s,
        "letters_s": turns_s * load.letters,
        "mib_s": turns_s * first.get("answer_octets", 0) / KIB / KIB,
        "cpu_ms": used / turns * 1000,
    }


NOTE = f"""\
The mailboxes are filled before the server starts, with the same octets on each: into posthouse's store in large units,
into Maildirs as Dovecot's own delivery writes them. The client is Python on the same machine; what it reaches against
canned answers stands beside the results. Before the clock starts it compares every letter, size, Message-ID or flag
with what was put there, which fills the servers' caches too ("the first time" is before that; Dovecot then makes the
index that its own delivery would have made letter by letter). While the clock runs, each answer must have as many FETCH
lines and octets as the one that was compared, and each search the right numbers; afterwards flags and appended letters
are compared once more.

Where letters are told, a session is LOGIN, SELECT, the FETCH of UID, FLAGS, RFC822.SIZE and ENVELOPE, and LOGOUT.
FLAGS, BODY[], STORE, APPEND and SEARCH are measured within sessions, one command at a time; both modes of Dovecot would
do the same there. Every STORE changes each letter that it names. Every search is for another word, which 5 of the
10,000 letters have; three in ten letters are quoted-printable or base64. Durability as each server does it by default:
posthouse syncs what APPEND and STORE changed before it answers, Dovecot what APPEND wrote and not the flags of STORE.
Dovecot keeps plain passwords, which is the cheapest for it; posthouse Argon2id, remembering right passwords for a short
time.

IDLE: each connection is of another user, whose INBOX has {imap_idle.LETTERS} letters. Memory is PSS over all
processes; what the kernel keeps for a connection is not counted. Dovecot's hibernation is off, as by default. Letters
come by LMTP for {imap_idle.WATCHED} of the connections in turn while the others idle on: inotify tells 128 processes of
a user as the system is set by default, and the rest of Dovecot's would look every half minute. Dovecot waits half a
second after a change, to tell several at once. mbsync writes into a Maildir without syncs of its own (`FSync no`); the
time is that of the program, the client's own work included.
"""

CELLS = (*(cell for _, cell in ROWS), *imap_idle.CELLS, imap_sync.CELL)
FAMILY = Family("imap", "IMAP", CELLS, SESSIONS_OF, run, NOTE)
