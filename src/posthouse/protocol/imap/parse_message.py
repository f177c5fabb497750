# SPDX-License-Identifier: Apache-2.0
"""Commands about messages: arguments to events. The ABNF rule stands above each function."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from posthouse.mail.number_set import NumberSet
from posthouse.mail.search import PartialRange
from posthouse.protocol.imap import events, limits
from posthouse.protocol.imap.fetch_items import parse_items
from posthouse.protocol.imap.tokens import CommandFault, Cursor

_STORE = re.compile(rb"([+\-]?)FLAGS(\.SILENT)?(?= )", re.IGNORECASE)
_MESSAGE = re.compile(rb"(~?)\{(\d{1,19})(\+?)\}\r\n")


def parse_check(cursor: Cursor) -> events.Check:
    cursor.end()
    return events.Check()


def parse_close(cursor: Cursor) -> events.Close:
    cursor.end()
    return events.Close()


def parse_unselect(cursor: Cursor) -> events.Unselect:
    cursor.end()
    return events.Unselect()


# expunge = "EXPUNGE"; uid-expunge = "EXPUNGE" SP sequence-set
def parse_expunge(cursor: Cursor) -> events.Expunge:
    uids = None
    if cursor.by_uid:
        cursor.space()
        uids = cursor.sequence_set()
    cursor.end()
    return events.Expunge(uids)


# fetch = "FETCH" SP sequence-set SP (macro / fetch-att / "(" fetch-att *(SP fetch-att) ")") [fetch-modifiers]
def parse_fetch(cursor: Cursor) -> events.Fetch:
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    event = events.Fetch(numbers, cursor.by_uid, parse_items(cursor))
    if cursor.looks_at(b" ("):
        cursor.space()
        for name, value in cursor.in_list(partial(_fetch_modifier, cursor), 4):
            match value:
                case int():
                    event = replace(event, changed_since=value)
                case PartialRange():
                    event = replace(event, partial=value)
                case _:
                    event = replace(event, tell_vanished=name == "VANISHED")
        # RFC 7162 §3.2.6: VANISHED belongs to UID FETCH and needs CHANGEDSINCE; RFC 9394 §3.2: so does PARTIAL to UID.
        if event.tell_vanished and (not event.by_uid or event.changed_since is None):
            raise CommandFault("VANISHED needs UID FETCH with CHANGEDSINCE", "CLIENTBUG")
        if event.partial is not None and not event.by_uid:
            raise CommandFault("PARTIAL needs UID FETCH", "CLIENTBUG")
    cursor.end()
    return event


def _fetch_modifier(cursor: Cursor) -> tuple[str, int | PartialRange | None]:
    name = cursor.label()
    if name == "VANISHED":
        return name, None
    if name == "CHANGEDSINCE":
        cursor.space()
        # RFC 7162 §7 says positive; clients that know nothing yet say 0.
        return name, cursor.number64()
    if name == "PARTIAL":
        cursor.space()
        return name, cursor.partial_range()
    raise CommandFault(f"There is no fetch modifier {name[:40]}", "CLIENTBUG")


# store = "STORE" SP sequence-set [store-modifiers] SP ["+" / "-"] "FLAGS" [".SILENT"] SP (flag-list / flag *(SP flag))
def parse_store(cursor: Cursor) -> events.Store:
    cursor.space()
    numbers = cursor.sequence_set()
    unchanged_since: int | None = None
    if cursor.looks_at(b" ("):
        cursor.space()
        found = cursor.in_list(partial(_store_modifier, cursor), 1)
        unchanged_since = found[0]
    cursor.space()
    verb = _STORE.match(cursor.text, cursor.position)
    if verb is None:
        cursor.fail("expected FLAGS")
    cursor.position = verb.end()
    cursor.space()
    if cursor.looks_at(b"("):
        flags = cursor.flag_list()
    else:
        found_flags = [cursor.flag()]
        while cursor.accept(b" ") and not cursor.is_at_end:
            found_flags.append(cursor.flag())
            if len(found_flags) > limits.MAX_FLAGS:
                raise CommandFault(f"At most {limits.MAX_FLAGS} flags", "LIMIT")
        flags = tuple(dict.fromkeys(found_flags))
    cursor.end()
    mode = events.StoreMode(verb[1].decode("ascii"))
    return events.Store(numbers, cursor.by_uid, mode, flags, verb[2] is not None, unchanged_since)


def _store_modifier(cursor: Cursor) -> int:
    if cursor.label() != "UNCHANGEDSINCE":
        cursor.fail("there is no such store modifier")
    cursor.space()
    return cursor.number64()


# copy = "COPY" SP sequence-set SP mailbox
def parse_copy(cursor: Cursor) -> events.Copy:
    return events.Copy(*_numbers_and_mailbox(cursor))


# move = "MOVE" SP sequence-set SP mailbox
def parse_move(cursor: Cursor) -> events.Move:
    return events.Move(*_numbers_and_mailbox(cursor))


def _numbers_and_mailbox(cursor: Cursor) -> tuple[NumberSet, bool, str]:
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.end()
    return numbers, cursor.by_uid, mailbox


@dataclass(frozen=True, slots=True)
class Appending:
    """APPEND or REPLACE up to where its first message begins."""

    mailbox: str
    replaces: tuple[NumberSet, bool] | None = None


# append = "APPEND" SP mailbox 1*append-message (RFC 4466 §3)
def parse_append(cursor: Cursor) -> Appending:
    cursor.space()
    return Appending(cursor.mailbox())


# replace = "REPLACE" SP seq-number SP mailbox append-message (RFC 8508 §5)
def parse_replace(cursor: Cursor) -> Appending:
    cursor.space()
    number = cursor.sequence_set(may_be_saved=False)
    if len(number.ranges) != 1 or number.ranges[0][0] != number.ranges[0][1]:
        cursor.fail("REPLACE takes one number")
    cursor.space()
    return Appending(cursor.mailbox(), (number, cursor.by_uid))


@dataclass(frozen=True, slots=True)
class Coming:
    """What stands before a message, and how it comes."""

    size: int
    is_synchronizing: bool
    flags: tuple[str, ...]
    internal_date: datetime | None
    is_binary: bool
    is_utf8: bool  # a ")" follows the literal (RFC 6855 §4)


# append-message = [SP flag-list] [SP date-time] SP (literal / literal8 / "UTF8" SP "(" literal8 ")")
def parse_message(cursor: Cursor) -> Coming:
    cursor.space()
    flags: tuple[str, ...] = ()
    when: datetime | None = None
    if cursor.looks_at(b"("):
        flags = cursor.flag_list()
        cursor.space()
    if cursor.looks_at(b'"'):
        when = cursor.date_time()
        cursor.space()
    is_utf8 = cursor.text[cursor.position : cursor.position + 6].upper() == b"UTF8 ("
    if is_utf8:
        cursor.position += 6
    found = _MESSAGE.match(cursor.text, cursor.position)
    if found is None or (is_utf8 and not found[1]):
        cursor.fail("expected a message as a literal")
    cursor.position = found.end()
    return Coming(int(found[2]), not found[3], flags, when, bool(found[1]), is_utf8)
