# SPDX-License-Identifier: Apache-2.0
"""Whether the disk of a server has what a person of the world knows by IMAP to be there.

Invariant checked: what was seen in a mailbox, or confirmed to be there, is there until its owner begins to take it
away; what is confirmed to be gone never comes back; nothing is put in twice but where an answer was lost; of a draft
that is replaced there is one version at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from posthouse.mail.header import scan_header
from posthouse.sim.devices import Letter
from posthouse.sim.holdings import Holdings, Spot
from posthouse.sim.ledger import Finding
from posthouse.sim.records import Placement, Records
from posthouse.store.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
from posthouse.store.messages import unique_id

FLAGS = {"\\seen": SEEN, "\\answered": ANSWERED, "\\flagged": FLAGGED, "\\deleted": DELETED, "\\draft": DRAFT}


def check(name: str, holdings: Holdings, rows: Records) -> Iterator[Finding]:
    """Of one person, on the disk of the own server."""
    mine = [each for each in rows.placements if rows.accounts[each.account].name == name]
    found = {(rows.mailboxes[each.mailbox].name, each.uid): each for each in mine}
    for text in holdings.complaints:
        yield Finding(f"{name}: {text}")
    for spot, unique in holdings.there.items():
        row = found.get(spot)
        if row is None:
            yield Finding(f"{name} had {unique or 'a letter'} in {_said(spot)}, and it is not there any more")
        elif unique and unique_id(row.email) != unique:
            yield Finding(f"{name} had {unique} in {_said(spot)}, and there is {unique_id(row.email)}")
    for spot in holdings.gone:
        if spot in found:
            yield Finding(f"{name} was told that {_said(spot)} is gone, and it is there")
    for spot, marks in holdings.marks.items():
        row = found.get(spot)
        if row is not None and not set(marks) <= set(row.keywords.split()):
            yield Finding(f"{name} marked {_said(spot)} with {', '.join(marks)}; it has {row.keywords or 'nothing'}")
    yield from _appended(name, holdings, [each for each in mine if not each.prefix], rows)


def _appended(name: str, holdings: Holdings, mine: list[Placement], rows: Records) -> Iterator[Finding]:
    """Delivered letters have trace fields of their own before them, those that their owner puts in have none."""
    copies: Counter[str] = Counter()
    for each in mine:
        octets = rows.octets(each.place)
        message_id = scan_header(octets).message_id.decode()
        copies[message_id] += 1
        known = holdings.appended.get(message_id)
        if known is None or known.octets != octets:
            yield Finding(f"{name} has put in nothing like <{message_id}>", message_id)
    for message_id, known in holdings.appended.items():
        if copies[message_id] > known.tries:
            text = f"{name} has <{message_id}> {copies[message_id]} times, it was put in {known.tries} times at most"
            yield Finding(text, message_id)
    for versions in holdings.drafts:
        there = sum(copies[version] for version in versions)
        if there > 1 or (not there and holdings.appended[versions[0]].confirmed):
            yield Finding(f"{name} has {there} versions of the draft <{versions[0]}>", versions[0])


def _said(spot: Spot) -> str:
    return f"UID {spot[1]} of {spot[0]}"


def mailboxes(name: str, rows: Records) -> dict[str, dict[int, Letter]]:
    """All that a person has, as a mail program should be shown it: by mailbox and UID."""
    found: dict[str, dict[int, Letter]] = {
        each.name: {} for each in rows.mailboxes.values() if rows.accounts[each.account].name == name
    }
    for each in rows.placements:
        if rows.accounts[each.account].name == name:
            flags = frozenset([*(flag for flag, bit in FLAGS.items() if each.flags & bit), *each.keywords.split()])
            letter = Letter(unique_id(each.email), flags, each.prefix + rows.octets(each.place))
            found[rows.mailboxes[each.mailbox].name][each.uid] = letter
    return found
