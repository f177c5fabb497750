# SPDX-License-Identifier: Apache-2.0
"""What is new in the selected mailbox, as untagged responses (RFC 9051 §7.4, §7.5).

Invariant: what is written here and what the view takes for told are the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import compress
from typing import assert_never

from posthouse.protocol.imap import codes, fetch_results, responses
from posthouse.protocol.imap.fetch_items import Attribute, FetchItem
from posthouse.protocol.imap.server import ImapServer
from posthouse.services.mailbox.flag_words import RECENT, SYSTEM_FLAGS
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.selected import SelectedMailbox
from posthouse.services.mailbox.view import Changed, Exists, Expunged, SelectedView, Told, Vanished
from posthouse.store import uidset
from posthouse.store.catalogue import Letters
from posthouse.store.mailboxes import SEPARATOR

NEW_KEYWORDS = "\\*"  # RFC 9051 §7.1: a client may make keywords


def news(selected: SelectedMailbox, engine: ImapServer) -> list[bytes]:
    view = selected.known_view
    if view is None:
        return []
    before = view.told_modseq
    told = view.tell(expunges=engine.may_tell_expunge)
    return keywords(selected) + [_written(each, selected, view, engine, before) for each in told]


def keywords(selected: SelectedMailbox) -> list[bytes]:
    """New ones, before a letter is told to have them (RFC 9051 §7.3.5)."""
    new = selected.new_keywords()
    if new is None:
        return []
    permanent = permanent_flags(selected.place, new, is_read_only=selected.is_read_only)
    return [
        responses.flags((*SYSTEM_FLAGS, *new)),
        responses.ok("What may be changed", codes.permanent_flags(permanent)),
    ]


def permanent_flags(place: Place, words: list[str], *, is_read_only: bool) -> list[str]:
    """By the rights of the person (RFC 4314 §4)."""
    if is_read_only:
        return []
    needed = {"\\Seen": "s", "\\Deleted": "t"}
    flags = [flag for flag in SYSTEM_FLAGS if place.may(needed.get(flag, "w"))]
    return [*flags, *words, NEW_KEYWORDS] if place.may("w") else flags


def _written(told: Told, selected: SelectedMailbox, view: SelectedView, engine: ImapServer, before: int) -> bytes:
    """`before`: up to this mod-sequence the client had been told all."""
    match told:
        case Expunged():
            return responses.expunges(told.numbers)
        case Vanished():
            return responses.vanished(told.uids)
        case Exists():
            exists = responses.exists(told.count)
            return exists if engine.is_rev2 else exists + responses.recent(told.recent)
        case Changed():
            # What another person alone sees of them (\Seen of a shared mailbox) is no news here.
            letters = selected.letters.within(uidset.from_uids(told.uids))
            uids = array("I", compress(letters.uids, map(before.__lt__, letters.modseqs)))
            return flags(selected, view, engine, uids) if uids else b""
        case _:
            assert_never(told)


def flags(
    selected: SelectedMailbox,
    view: SelectedView,
    engine: ImapServer,
    uids: array[int],
    *,
    with_uid: bool = False,
    with_flags: bool = True,
    with_modseq: bool = False,
) -> bytes:
    """FETCH responses with the flags of these letters (growing UIDs that the client knows) as they are now.

    UID and MODSEQ stand in them where the client is to know (RFC 7162 §3.2.4, §3.1.1), or the caller wants so.
    """
    letters = selected.letters.within(uidset.from_uids(uids))
    numbers: Sequence[int] = letters.uids if engine.is_uid_only else view.numbers(letters.uids)
    items: list[FetchItem] = []
    columns: list[Sequence[object]] = [numbers]
    if not engine.is_uid_only and (with_uid or "QRESYNC" in engine.enabled):
        items.append(Attribute.UID)
        columns.append(letters.uids)
    if with_flags:
        items.append(Attribute.FLAGS)
        columns.append(flag_words(selected, view, letters, engine))
    if with_modseq or "CONDSTORE" in engine.enabled:
        items.append(Attribute.MODSEQ)
        columns.append(letters.modseqs)
    return fetch_results.rows(fetch_results.row_format(items, is_uid_only=engine.is_uid_only), *columns)


def flag_words(selected: SelectedMailbox, view: SelectedView, letters: Letters, engine: ImapServer) -> list[bytes]:
    r"""Of each letter; \Recent for clients of RFC 3501 alone."""
    words = selected.words.of_all(letters)
    if engine.is_rev2 or not view.recent:
        return words
    mark = RECENT.encode("ascii")
    return [
        (word + b" " + mark if word else mark) if view.is_recent(uid) else word
        for uid, word in zip(letters.uids, words, strict=True)
    ]


def name(engine: ImapServer, said: str, kept: str, attributes: Sequence[str] = ()) -> bytes:
    """LIST with the name that a mailbox has, and the one that the client said where it is another: OLDNAME (RFC 9051
    §6.3.9.7), for clients of IMAP4rev2."""
    is_utf8 = engine.is_utf8
    extended = [] if said.removesuffix(SEPARATOR) == kept else [responses.old_name(said, is_utf8=is_utf8)]
    return responses.list_row(kept, attributes, is_utf8=is_utf8, extended=extended)
