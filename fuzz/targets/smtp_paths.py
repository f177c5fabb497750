# SPDX-License-Identifier: Apache-2.0
"""MAIL and RCPT: what our server reads, our client says in words that read the same."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fuzz.choices import Choices
from posthouse.mail.address import Domain
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.protocol.smtp.client_commands import MAX_ENVID, mail_command, rcpt_command, xtext
from posthouse.protocol.smtp.client_offer import Offer
from posthouse.protocol.smtp.commands import (
    Context,
    parse_ehlo,
    parse_expn,
    parse_help,
    parse_mail,
    parse_rcpt,
    parse_vrfy,
)
from posthouse.protocol.smtp.events import Event, MailFrom, RcptTo
from posthouse.protocol.smtp.faults import CommandFault
from posthouse.store.queue_rows import pack_reverse_path, unpack_reverse_path

DICTIONARY = "smtp.dict"
HOST = Domain("mail.example.test")
EVERYTHING: Mapping[str, str] = MappingProxyType(dict.fromkeys(("SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING"), ""))


def target(data: bytes) -> None:
    choices = Choices(data)
    kind = choices.number(4)
    context = Context(HOST, is_extended=True, smtputf8=choices.flag())
    line = choices.rest
    if b"\r" in line or b"\n" in line or b"\0" in line:
        return  # the engine refuses such lines before anybody reads them
    try:
        match kind:
            case 0:
                understood: Event | None = parse_mail(line.rstrip(b" "), context)
            case 1:
                understood = parse_rcpt(line.rstrip(b" "), context)
            case _:
                understood = None
                for parse in (parse_ehlo, parse_help, parse_vrfy, parse_expn):
                    parse(line, context)
    except CommandFault as fault:
        reply = fault.reply.encode()
        assert reply.isascii(), "a refusal must be ASCII"
        assert reply.count(b"\r\n") == 1, "a refusal has one line"
        return
    match understood:
        case MailFrom(reverse_path):
            _mail(reverse_path, context)
        case RcptTo(forward_path):
            _rcpt(forward_path, context)


def _mail(path: ReversePath, context: Context) -> None:
    """What we say of it, we must take."""
    said = mail_command(path, Offer(EVERYTHING), size=path.size or 0, body=path.body, smtputf8=path.smtputf8)
    again = parse_mail(said[5:-2], context).path
    assert again.address == path.address, "the reverse-path changes when it is said again"
    assert again.dsn_return is path.dsn_return
    if path.envelope_id is not None and len(xtext(path.envelope_id)) <= MAX_ENVID:
        assert again.envelope_id == path.envelope_id, "ENVID changes when it is said again"
    kept = unpack_reverse_path(str(path), pack_reverse_path(path))
    assert kept.address == path.address, "the queue gives back another reverse-path"
    assert (kept.envelope_id, kept.dsn_return, kept.smtputf8) == (path.envelope_id, path.dsn_return, path.smtputf8)


def _rcpt(path: ForwardPath, context: Context) -> None:
    """As above."""
    said = rcpt_command(path, Offer(EVERYTHING))
    again = parse_rcpt(said[5:-2], context).path
    assert again.address == path.address, "the forward-path changes when it is said again"
    assert again.notify == path.notify
    if again.original_recipient is not None and path.original_recipient is not None:
        kind = path.original_recipient.partition(";")[0].lower()
        assert kind == "utf-8" or again.original_recipient == path.original_recipient, "ORCPT changes"
