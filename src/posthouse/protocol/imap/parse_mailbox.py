# SPDX-License-Identifier: Apache-2.0
"""Commands about mailboxes, their rights and quota: arguments to events. The ABNF rule stands above each function."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from posthouse.mail.number_set import NumberSet
from posthouse.protocol.imap import events, limits
from posthouse.protocol.imap.tokens import CommandFault, Cursor

_USE = re.compile(rb"\\([A-Za-z0-9\-_.]{1,64})")
_STATUS_ITEMS = {item.value: item for item in events.StatusItem}


def _one(cursor: Cursor) -> str:
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    return name


# select = "SELECT" SP mailbox [select-params]
def parse_select(cursor: Cursor, *, is_read_only: bool) -> events.Select:
    cursor.space()
    event = events.Select(cursor.mailbox(), is_read_only)
    if cursor.looks_at(b" ("):
        cursor.space()
        seen: set[str] = set()
        for name, value in cursor.in_list(partial(_select_parameter, cursor), 4):
            if name in seen:
                raise CommandFault(f"{name} was said twice", "CLIENTBUG")
            seen.add(name)
            event = replace(event, condstore=True) if value is None else replace(event, qresync=value)
    cursor.end()
    return event


def _select_parameter(cursor: Cursor) -> tuple[str, events.Qresync | None]:
    name = cursor.label()
    if name == "CONDSTORE":  # RFC 7162 §3.1.8
        return name, None
    if name == "QRESYNC":
        return name, _qresync(cursor)
    raise CommandFault(f"There is no parameter {name[:40]} here", "CLIENTBUG")


# "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")" (RFC 7162 §7)
def _qresync(cursor: Cursor) -> events.Qresync:
    cursor.space()
    cursor.expect(b"(")
    validity = cursor.nz_number()
    cursor.space()
    mod_sequence = cursor.number(limits.MAX_NUMBER64, 1)
    known: NumberSet | None = None
    numbers: NumberSet | None = None
    uids: NumberSet | None = None
    if cursor.looks_at(b" ") and not cursor.looks_at(b" ("):
        cursor.space()
        known = cursor.sequence_set(may_have_star=False, may_be_saved=False)
    if cursor.accept(b" ("):
        numbers = cursor.sequence_set(may_have_star=False, may_be_saved=False)
        cursor.space()
        uids = cursor.sequence_set(may_have_star=False, may_be_saved=False)
        cursor.expect(b")")
        if _length(numbers) != _length(uids):
            cursor.fail("as many UIDs as message numbers are needed")
    cursor.expect(b")")
    return events.Qresync(validity, mod_sequence, known, numbers, uids)


def _length(numbers: NumberSet) -> int:
    return sum(last - first + 1 for first, last in numbers.resolved(0))


# create = "CREATE" SP mailbox [create-params]; create-param = "USE" SP "(" [use-attr *(SP use-attr)] ")" (RFC 6154 §6)
def parse_create(cursor: Cursor) -> events.Create:
    cursor.space()
    name = cursor.mailbox()
    uses: tuple[str, ...] = ()
    if cursor.looks_at(b" ("):
        cursor.space()
        for found in cursor.in_list(partial(_create_parameter, cursor), 2):
            uses += found
    cursor.end()
    return events.Create(name, tuple(dict.fromkeys(uses)))


def _create_parameter(cursor: Cursor) -> tuple[str, ...]:
    name = cursor.label()
    if name != "USE":
        raise CommandFault(f"There is no parameter {name[:40]} here", "CLIENTBUG")
    cursor.space()
    return tuple(cursor.in_list(partial(_use, cursor), 16, may_be_empty=True))


def _use(cursor: Cursor) -> str:
    found = _USE.match(cursor.text, cursor.position)
    if found is None:
        cursor.fail("expected a use, such as \\Sent")
    cursor.position = found.end()
    return "\\" + found[1].decode("ascii").capitalize()


# delete = "DELETE" SP mailbox
def parse_delete(cursor: Cursor) -> events.Delete:
    return events.Delete(_one(cursor))


# rename = "RENAME" SP mailbox SP mailbox
def parse_rename(cursor: Cursor) -> events.Rename:
    cursor.space()
    name = cursor.mailbox()
    return events.Rename(name, _one(cursor))


def parse_subscribe(cursor: Cursor) -> events.Subscribe:
    return events.Subscribe(_one(cursor))


def parse_unsubscribe(cursor: Cursor) -> events.Unsubscribe:
    return events.Unsubscribe(_one(cursor))


# status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"
def parse_status(cursor: Cursor) -> events.Status:
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    items = _status_items(cursor)
    cursor.end()
    return events.Status(name, items)


def _status_items(cursor: Cursor) -> tuple[events.StatusItem, ...]:
    return tuple(dict.fromkeys(cursor.in_list(partial(_status_item, cursor), 4 * len(_STATUS_ITEMS))))


def _status_item(cursor: Cursor) -> events.StatusItem:
    item = _STATUS_ITEMS.get(cursor.keyword())
    if item is None:
        cursor.fail("there is no such status item")
    return item


# list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
def parse_list(cursor: Cursor) -> events.List:
    cursor.space()
    selection: set[str] = set()
    is_extended = cursor.looks_at(b"(")
    if is_extended:
        selection.update(cursor.in_list(partial(_selection, cursor), 16, may_be_empty=True))
        cursor.space()
        # RFC 5258 §3.1: RECURSIVEMATCH needs an option that can stand alone.
        if "RECURSIVEMATCH" in selection and not selection & {"SUBSCRIBED", "SPECIAL-USE"}:
            raise CommandFault("RECURSIVEMATCH needs SUBSCRIBED or SPECIAL-USE beside it", "CLIENTBUG")
    reference = cursor.mailbox()
    cursor.space()
    if cursor.looks_at(b"("):
        is_extended = True
        patterns = tuple(cursor.in_list(cursor.list_mailbox, limits.MAX_PATTERNS))
    else:
        patterns = (cursor.list_mailbox(),)
    event = events.List(
        reference,
        patterns,
        is_extended=is_extended,
        only_subscribed="SUBSCRIBED" in selection,
        with_remote="REMOTE" in selection,
        recursive_match="RECURSIVEMATCH" in selection,
        only_special_use="SPECIAL-USE" in selection,
    )
    if cursor.text[cursor.position : cursor.position + 8].upper() == b" RETURN ":
        cursor.position += 8
        event = replace(event, is_extended=True)
        found = dict(cursor.in_list(partial(_list_return, cursor), 16, may_be_empty=True))
        event = replace(
            event,
            tell_subscribed="SUBSCRIBED" in found,
            tell_children="CHILDREN" in found,
            tell_special_use="SPECIAL-USE" in found,
            tell_my_rights="MYRIGHTS" in found,
            status=found.get("STATUS", ()),
        )
    cursor.end()
    return event


def _selection(cursor: Cursor) -> str:
    word = cursor.label()
    if word not in ("SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"):
        raise CommandFault(f"There is no selection option {word[:40]}", "CLIENTBUG")
    return word


_RETURNS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"})  # RFC 5258 §4, RFC 6154 §5.3, RFC 8440 §3


def _list_return(cursor: Cursor) -> tuple[str, tuple[events.StatusItem, ...]]:
    word = cursor.label()
    if word == "STATUS":  # RFC 5819 §4
        cursor.space()
        return word, _status_items(cursor)
    if word not in _RETURNS:
        raise CommandFault(f"There is no return option {word[:40]}", "CLIENTBUG")
    return word, ()


# lsub = "LSUB" SP mailbox SP list-mailbox (RFC 3501 §9)
def parse_lsub(cursor: Cursor) -> events.Lsub:
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    pattern = cursor.list_mailbox()
    cursor.end()
    return events.Lsub(reference, pattern)


# getacl = "GETACL" SP mailbox (RFC 4314 §7)
def parse_getacl(cursor: Cursor) -> events.GetAcl:
    return events.GetAcl(_one(cursor))


# setacl = "SETACL" SP mailbox SP identifier SP mod-rights
def parse_setacl(cursor: Cursor) -> events.SetAcl:
    mailbox, identifier = _mailbox_and_identifier(cursor)
    cursor.space()
    rights = cursor.astring_text()
    cursor.end()
    sign = rights[:1] if rights[:1] in ("+", "-") else ""
    letters = rights[len(sign) :]
    # RFC 4314 §3.1: "rights" are lower-case letters and digits.
    if not all(letter.isascii() and (letter.islower() or letter.isdigit()) for letter in letters):
        raise CommandFault("Rights are lower-case letters", "CLIENTBUG")
    return events.SetAcl(mailbox, identifier, events.RightsChange(sign), "".join(dict.fromkeys(letters)))


# deleteacl = "DELETEACL" SP mailbox SP identifier
def parse_deleteacl(cursor: Cursor) -> events.DeleteAcl:
    mailbox, identifier = _mailbox_and_identifier(cursor)
    cursor.end()
    return events.DeleteAcl(mailbox, identifier)


# listrights = "LISTRIGHTS" SP mailbox SP identifier
def parse_listrights(cursor: Cursor) -> events.ListRights:
    mailbox, identifier = _mailbox_and_identifier(cursor)
    cursor.end()
    return events.ListRights(mailbox, identifier)


def _mailbox_and_identifier(cursor: Cursor) -> tuple[str, str]:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    identifier = cursor.astring_text()
    if len(identifier) > limits.MAX_MAILBOX_NAME:
        raise CommandFault("The identifier is too long", "LIMIT", is_no=True)
    return mailbox, identifier


def parse_myrights(cursor: Cursor) -> events.MyRights:
    return events.MyRights(_one(cursor))


# getquota = "GETQUOTA" SP quota-root-name (RFC 9208 §7)
def parse_getquota(cursor: Cursor) -> events.GetQuota:
    cursor.space()
    root = cursor.astring_text()
    cursor.end()
    return events.GetQuota(root)


def parse_getquotaroot(cursor: Cursor) -> events.GetQuotaRoot:
    return events.GetQuotaRoot(_one(cursor))


# setquota = "SETQUOTA" SP quota-root-name SP "(" [setquota-resource *(SP setquota-resource)] ")"
def parse_setquota(cursor: Cursor) -> events.SetQuota:
    cursor.space()
    root = cursor.astring_text()
    cursor.space()
    resources = cursor.in_list(partial(_resource, cursor), limits.MAX_QUOTA_RESOURCES, may_be_empty=True)
    cursor.end()
    return events.SetQuota(root, tuple(resources))


def _resource(cursor: Cursor) -> tuple[str, int]:
    name = cursor.keyword()
    cursor.space()
    return name, cursor.number64()
