# SPDX-License-Identifier: Apache-2.0
"""Every target can fail: with a fault planted in what it looks at, its kept inputs tell of it.

A target that is added without a line here fails the first test.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from fuzz.targets import (
    address_list,
    auth_results,
    content,
    dates,
    dkim_body,
    downgrade,
    dsn_reader,
    dsn_writer,
    encoded_word,
    header,
    manifest,
    pack,
    report_letter,
    structure,
)

from fuzz import plain, pop3_house, registry, smtp_house
from posthouse import config
from posthouse.config import ConfigError
from posthouse.edges.cli import foreign
from posthouse.edges.control import routing
from posthouse.edges.web import microsoft, names
from posthouse.mail import srs as mail_srs
from posthouse.mail import trace as mail_trace
from posthouse.mail.address import Domain
from posthouse.mailauth import aggregate_reader, dane, dmarc, mta_sts, report_uri, signatures, spf
from posthouse.mailauth import tls_report as mailauth_tls_report
from posthouse.mailauth.canonical import simple_body
from posthouse.net import pop3_source, resolver
from posthouse.protocol import client_hello
from posthouse.protocol.imap import client as imap_client
from posthouse.protocol.imap import server as imap_server
from posthouse.protocol.imap import utf7
from posthouse.protocol.pop3 import client as pop3_client
from posthouse.protocol.pop3 import commands as pop3_commands
from posthouse.protocol.sasl import plain as sasl_plain
from posthouse.protocol.sasl import scram
from posthouse.protocol.smtp import client_auth, client_commands, client_transaction, reply_parser, server
from posthouse.protocol.smtp.data import DotReader
from posthouse.services import passwords
from posthouse.services.acme import words
from posthouse.store import notes, uidset

Plant = Callable[[pytest.MonkeyPatch], None]


def _put(owner: Any, name: str, instead: Any) -> Plant:
    return lambda patch: patch.setattr(owner, name, instead)


def _around(owner: Any, name: str, change: Callable[[Any], Any]) -> Plant:
    """What the function returns is changed."""
    whole = getattr(owner, name)
    return _put(owner, name, lambda *args, **options: change(whole(*args, **options)))


def _raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


async def _says_yes(*_: Any, **__: Any) -> bool:
    return True


class _CarelessDots(DotReader):
    """Leaves the first dot of each line where it is."""

    def take(self, *args: Any) -> Any:
        taken, position, is_done = super().take(*args)
        return taken.replace(b"\r\n.", b"\r\n.."), position, is_done


def _deaf_to_short_pieces(owner: Any, name: str) -> Plant:
    """What is understood depends on how the network cuts it."""
    whole = getattr(owner, name)
    return _put(owner, name, lambda self, data: None if 0 < len(data) < 20 else whole(self, data))


PLANTED: dict[str, Plant] = {
    "acme_answers": _put(words.Problem, "text", lambda _: "too long" * 10_000),
    "client_hello": _around(client_hello, "_server_name", str.upper),
    "dane": _put(dane, "_is_usable", lambda _: True),
    "mta_sts": _put(mta_sts.StsPolicy, "allows", lambda *_: False),
    "address": _put(Domain, "unicode", property(lambda domain: f"{domain.name}\ud800")),
    "address_list": _around(address_list, "addresses", lambda found: found[1:]),
    "auth_results": _put(auth_results, "remove_claimed", lambda header_block, _own: header_block),
    "autodiscover": _put(microsoft._Reader, "doctype", lambda *_: None),
    "config_file": _put(config, "parse", _raising(ConfigError([]))),
    "content": _put(content, "DotReader", _CarelessDots),
    "control_api": _put(routing, "octets_of", _raising(KeyError("a fault"))),
    "dates": _around(dates, "format_date", lambda text: text.replace("00", "01")),
    "aggregate_report": _put(aggregate_reader, "printable", str),
    "dkim_body": _put(dkim_body, "relaxed_body", simple_body),
    "dkim_verify": _put(signatures, "base64_of", lambda text: base64.b64decode(text, validate=True)),
    "dmarc": _put(dmarc._Evaluation, "_counts", _says_yes),
    "dns_answers": _put(resolver, "reason_of", _raising(KeyError("a fault"))),
    "downgrade": _put(downgrade, "surrogate", bytes),
    "dsn_reader": _around(dsn_reader, "parse_dsn", lambda found: found and found.recipients[0].none_of_it),
    "dsn_writer": _around(dsn_writer, "compose_dsn", lambda text: text.replace(b"Action: failed", b"Action: delayed")),
    "encoded_word": _around(encoded_word, "encode_header_text", lambda text: text.removesuffix("=")),
    "foreign": _put(foreign, "with_crlf", bytes),
    "header": _put(header, "remove_fields", lambda letter, _names: letter),
    "imap_both": _put(utf7, "decode", bytes.decode),
    "imap_client": _put(imap_client, "values_of", _raising(KeyError("a fault"))),
    "imap_server": _deaf_to_short_pieces(imap_server.ImapServer, "receive_data"),
    "manifest": _put(manifest, "ArchiveFault", KeyError),
    "notes": _put(notes, "decode", notes._DECODER.decode),
    "pack": _around(pack, "scan", lambda found: list(found)[:-1]),
    "password_hash": _put(passwords, "_is_affordable", lambda _: True),
    "pop3_both": _put(pop3_house, "has_dot_lines", lambda _: False),
    "pop3_client": _put(
        pop3_client, "_parse_answer", lambda line: pop3_client.Answer(True, None, line.decode("ascii"))
    ),
    "pop3_server": _put(pop3_commands, "_number", int),
    "pop3_session": _put(pop3_client.Pop3Client, "retrieve", lambda client, number: client.top(number, number)),
    "pop3_source": _put(pop3_source, "_shown", str),
    "report_letter": _around(report_letter, "read_letter", lambda found: found and found.none_of_it),
    "report_targets": _put(report_uri, "_url", str),
    "sasl_both": _put(sasl_plain.PlainClient, "initial", lambda _: b"\0somebody\0something"),
    "sasl_client": _put(scram, "_text", lambda octets: octets.decode()),
    "sasl_server": _put(sasl_plain, "decode", lambda octets, _limit: octets.decode()),
    "smtp_both": _put(client_transaction, "stuffed", lambda content: iter([*map(bytes, content), b"\r\n.\r\n"])),
    "smtp_client": _put(client_auth, "decode", _raising(KeyError("a fault"))),
    "smtp_paths": _put(client_commands, "xtext", str),
    "smtp_reply": _deaf_to_short_pieces(reply_parser.ReplyParser, "feed"),
    "smtp_server": _deaf_to_short_pieces(server.SmtpServer, "receive_data"),
    "spf": _put(spf, "_printable", str),
    "srs": _put(mail_srs.Srs, "_hash", lambda *_: "a" * mail_srs.HASH_LENGTH),
    "structure": _around(structure, "unpack", lambda part: part._replace(lines=part.lines + 1)),
    "tls_report": _put(mailauth_tls_report, "printable", str),
    "trace": _put(mail_trace, "_NOT_SHOWN", re.compile("(?!)")),
    "uid_set": _around(uidset, "to_text", lambda text: text.replace(":", ",")),
    "web_door": _put(names.Names, "are_ours", _says_yes),
}


def test_every_target_has_a_fault_to_find() -> None:
    assert sorted(PLANTED) == registry.names()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_fault_is_found_by_the_kept_inputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = registry.load(name)
    assert smtp_house.NAME  # the houses are there before anything is planted
    PLANTED[name](monkeypatch)
    assert plain.replay(target), "the fault is not found"
