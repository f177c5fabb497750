# SPDX-License-Identifier: Apache-2.0
"""Each fault that fuzzing has found, with the input that showed it made as small as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from fuzz.targets import control_api, pop3_source
from typer import BadParameter

from fuzz import registry
from posthouse import config
from posthouse.config import ConfigError
from posthouse.edges.cli import foreign, transfer
from posthouse.edges.cli.backend import Stop
from posthouse.mail.address import AddressError, Domain, parse_address
from posthouse.mail.address_list import addresses, parse_address_list
from posthouse.mail.dsn_reader import parse_dsn
from posthouse.mail.encoded_word import codec_name, decode_header_text
from posthouse.mailauth import tlsrpt
from posthouse.mailauth.dkim_verify import DkimResult, verify
from posthouse.mailauth.signatures import parse_tags
from posthouse.mailauth.tls_report import read_tls_report, render
from posthouse.net.disk import PosixDisk
from posthouse.net.pop3_source import Pop3Source, SourceFault, tls_context
from posthouse.outcome import Refusal
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.pop3.client import MAX_LINE, Pop3Client
from posthouse.services.archive import Archive, ArchiveFault
from posthouse.services.passwords import Passwords, check_imported
from posthouse.services.restore import Unpacking
from posthouse.services.routing import StaticRoute
from posthouse.store import notes
from posthouse.store.blobs.record import Damage, PackKind, pack_header, read_pack_header, record_header, scan
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.threads import base_subject

# Long enough that what is quadratic takes minutes, and what is linear no time that anybody would notice.
LONG = 200_000


@pytest.mark.parametrize("zone", ["eth0", " > evil", "\u00e9", "\x01", "a]x[b"])
def test_an_address_literal_has_no_zone(zone: str) -> None:
    """Python takes any text behind a `%`; in an envelope or a Received field it would end what it stands in."""
    with pytest.raises(AddressError):
        Domain.parse(f"[IPv6:fe80::1%{zone}]")
    with pytest.raises(AddressError):
        parse_address(f"a@[IPv6:fe80::1%{zone}]")


def test_halves_of_characters_do_not_come_out_of_utf7() -> None:
    """Such text could not be stored, sent or logged: encoding it raises."""
    text = decode_header_text(b"=?utf-7?q?+2AA-?=")
    assert text == "\ufffd"
    assert decode_header_text("=?utf-7?q?+2D3eAA-?=") == "\U0001f600", "whole pairs are characters"


@pytest.mark.parametrize("label", ["unicode_escape", "unicode+escape", "raw_unicode_escape", "raw.unicode_escape"])
def test_a_refused_codec_is_refused_by_any_of_its_names(label: str) -> None:
    assert codec_name(label) is None


def test_blanks_in_a_tag_list_cost_no_more_than_other_octets() -> None:
    tags = parse_tags(b"a = x" + b" " * LONG + b"y ; b=z;")
    assert tags[b"b"] == b"z"
    assert tags[b"a"].startswith(b"x ")


_SIGNED = b"From: a@b.test\r\nDKIM-Signature: v=1; a=ed25519-sha256; d=b.test; s=s; h=from; bh=AAAA; b=AAAA; l=%b\r\n"


@pytest.mark.parametrize("length", [b"0" * 5000, b"0" * 30 + b"999", b"9" * 77])
def test_a_body_length_of_many_digits_is_a_permanent_error(length: bytes) -> None:
    """Python refuses to read numbers of more than 4,300 digits; twenty zeros hid a length beyond the body."""
    key = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    (verdict,) = verify(_SIGNED % length, b"body\r\n", lambda _: key)
    assert verdict.result is DkimResult.PERMERROR
    assert verdict.reason == "l= is no length within the body"


def test_odd_blanks_before_a_type_cost_no_more_than_other_octets() -> None:
    """Each such field took some eight million steps, and a report may hold hundreds."""
    field = b"Diagnostic-Code: \x0b" + b"\x0b" * 3900 + b"!; 550 no\r\n"
    report = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; a.test\r\n\r\n"
    report += b"".join(b"Action: failed\r\n" + field + b"\r\n" for _ in range(200))
    read = parse_dsn(report)
    assert read is not None
    assert len(read.recipients) == 200


_NOTE = msgspec.msgpack.encode([1, 5, 1.5, "trace", "a@b.test", 100, True, [], None])


@pytest.mark.parametrize(
    "octets",
    [_NOTE.replace(b"trace", b"tr\xffce"), b"\x9a" + _NOTE[1:] + b"\x91" * 100_000, _NOTE[:-3], b""],
    ids=["text that is no UTF-8", "deep nesting", "cut", "nothing"],
)
def test_a_damaged_note_is_told_by_its_own_error(octets: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        notes.decode(octets)


def test_a_record_of_an_unknown_kind_is_damage() -> None:
    """A pack of a newer version, or a flipped bit that a checksum happens to fit: the scan goes on behind it."""
    mark = b"12345678"
    pack = pack_header(PackKind.LOG, 7, 1.0, mark) + record_header(mark, b"", 0, 0, kind=9)
    pack += record_header(mark, b"", 0, 0)
    view = memoryview(pack)
    first, second = scan(view, read_pack_header(view))
    assert isinstance(first, Damage)
    assert "kind 9" in first.reason
    assert not isinstance(second, Damage)


def test_a_damaged_hash_of_another_server_is_refused() -> None:
    with pytest.raises(Refusal):
        check_imported("{PBKDF2}1$s{SSHA256}10$00ff")


def test_a_file_that_is_no_mbox_is_refused_with_a_word(tmp_path: Path) -> None:
    """Closing the map failed while the search still held it, and that was all that anybody was told."""
    path = tmp_path / "letters"
    path.write_bytes(b"\n\nFrom c@d.test Tue Jul  1 10:52:38 2003\nSubject: b\n\ny\n")
    with pytest.raises(Stop, match="no mbox"):
        list(foreign.mbox(path, "INBOX"))


def test_a_long_line_of_digits_in_an_mbox_costs_no_more_than_other_octets(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(b"From a 2003\n\nFrom " + b"1" * LONG + b"\rx\n")
    assert len(list(foreign.mbox(path, "INBOX"))) == 1


@pytest.mark.parametrize("octets", [b"0 \xff\xfe\n1 work\n", "\u00b2 two\n1 work\n".encode(), b"999 x\n1 work\n"])
def test_an_odd_file_of_keywords_leaves_the_good_ones(octets: bytes, tmp_path: Path) -> None:
    for sub in ("cur", "new", "tmp"):
        (tmp_path / sub).mkdir()
    (tmp_path / "dovecot-keywords").write_bytes(octets)
    (tmp_path / "cur" / "1.host:2,b").write_bytes(b"Subject: x\n\n")
    (letter,) = foreign.maildir(tmp_path, None)
    assert letter.keywords == ("work",)


def test_a_route_of_many_hosts_costs_no_more_than_other_octets() -> None:
    found = parse_address_list("<" + "@ " * (LONG // 2) + ">")
    assert not found.is_clean


def test_brackets_within_quotes_within_brackets_are_the_address() -> None:
    """What we write for such an address we must be able to read."""
    assert addresses('"B" <"John <"@b.test>, c@d.test') == [parse_address('"John <"@b.test'), parse_address("c@d.test")]


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "\xff"], ids=["nested", "digits", "latin"])
def test_toml_that_its_reader_gives_up_on_is_a_mistake_in_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "posthouse.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert caught.value.problems[0].startswith(f"{path}: ")


def test_a_line_of_a_pop3_server_has_one_verdict_however_it_is_cut() -> None:
    """Whole it was taken, in pieces it was too long."""
    for size, is_taken in ((MAX_LINE, True), (MAX_LINE + 1, False)):
        line = b"+OK " + b"x" * (size - 4) + b"\r\n"
        for step in (len(line), 1):
            client = Pop3Client()
            taken = _heard(client, [line[at : at + step] for at in range(0, len(line), step)])
            assert taken == is_taken, (size, step)


def _heard(client: Pop3Client, pieces: Sequence[bytes]) -> bool:
    try:
        for piece in pieces:
            client.receive_data(piece)
            event = client.next_event()
    except RemoteProtocolError:
        return False
    return getattr(event, "is_ok", False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_octets",
    [
        b'POST /v1/domains HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n{"name": "\xff"}',
        b'POST /v1/domains HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{"name": ',
    ],
    ids=["no UTF-8", "no end"],
)
def test_a_bad_body_is_no_fault_of_the_admin_api(request_octets: bytes) -> None:
    """Both filled the log with a traceback and were answered with 500; the target fails for either."""
    control_api.target(request_octets + b"\0\0")


def test_a_subject_in_a_codec_that_is_no_charset_is_read_without_it() -> None:
    """Python warns of an odd escape, and a warning may be an error."""
    assert base_subject(b"=?unicode_escape?q?=5Cq?=") == "\\q"
    assert base_subject(b"=?punycode?q?abc-?=") == "abc-"


@pytest.mark.parametrize("text", ["9" * 400 + "d", "40000d"])
def test_a_duration_has_an_end(text: str) -> None:
    """An expiry after the year 9999 could be set, and no report could print its date."""
    with pytest.raises(ConfigError, match=r"queue\.expire: this is longer than a hundred years"):
        config.from_table({"hostname": "a.test", "queue": {"expire": text}}, "posthouse.toml")


@pytest.mark.parametrize(
    "damage", [b'{"format":' + b"[" * 5000, b'{"hostname":"a.t\xffst"}'], ids=["nested", "no UTF-8"]
)
def test_a_damaged_manifest_of_a_backup_is_told_by_its_own_error(damage: bytes, tmp_path: Path) -> None:
    """The search for the newest whole backup ended at the first damaged one instead of going on."""
    (tmp_path / "manifests").mkdir()
    sheet = b'{"digest":"%s","manifest":%s}' % (sha256(damage).hexdigest().encode(), damage)
    (tmp_path / "manifests" / "20261123T000000Z.json").write_bytes(sheet)
    archive = Archive(tmp_path, PosixDisk())
    with pytest.raises(ArchiveFault, match="damaged"):
        archive.load("20261123T000000Z")
    assert archive.newest() is None


_DIGEST = "0" * 64
_SHEET = {
    "format": 1,
    "generation": "20261123T000000Z",
    "version": "0.1",
    "house": "h",
    "hostname": "a.test",
    **dict.fromkeys(("taken_at", "ended_at"), 1.0),
    **dict.fromkeys(("accounts", "letters", "queued", "octets", "copied"), 1),
    "database": {"path": "posthouse.sqlite3", "size": 1, "digest": _DIGEST},
    "files": [],
    "packs": [],
    "findings": [],
}
_STRETCH = {"name": f"{1:015d}-{0:015d}-00", "offset": 0, "size": 5, "digest": _DIGEST}


def _archive(folder: Path, sheet: object) -> Archive:
    """Backups whose one manifest says this, with a right digest."""
    octets = msgspec.json.encode(sheet)
    (folder / "manifests").mkdir()
    whole = b'{"digest":"%s","manifest":%s}' % (sha256(octets).hexdigest().encode(), octets)
    (folder / "manifests" / "20261123T000000Z.json").write_bytes(whole)
    return Archive(folder, PosixDisk())


@pytest.mark.parametrize("odd", [{"size": -5}, {"name": "../../etc/shadow"}, {"digest": "../x"}, {"offset": 1 << 63}])
def test_a_manifest_counts_and_names_only_what_there_can_be(odd: dict[str, object], tmp_path: Path) -> None:
    """With a negative size the checks of a backup added up to nonsense."""
    packs = [{"number": 1, "size": 5, "stretches": [_STRETCH | odd]}]
    archive = _archive(tmp_path, _SHEET | {"packs": packs})
    with pytest.raises(ArchiveFault, match="damaged"):
        archive.load("20261123T000000Z")


@pytest.mark.parametrize("path", ["../database", "/tmp/database", "a/../../b"])
def test_a_restored_database_does_not_leave_the_data_directory(path: str, tmp_path: Path) -> None:
    """Files were looked at so, the database was not."""
    (tmp_path / "databases").mkdir()
    (tmp_path / "databases" / "20261123T000000Z.sqlite3").write_bytes(b"x")
    entry = {"path": path, "size": 1, "digest": sha256(b"x").hexdigest()}
    (tmp_path / "house").mkdir()
    archive = _archive(tmp_path, _SHEET | {"database": entry})
    manifest = archive.load("20261123T000000Z")
    with pytest.raises(ArchiveFault, match="leads out of the data directory"):
        Unpacking(archive, manifest, PosixDisk(), tmp_path / "house", accepts_damage=True).unpack()


_SHA256 = "A" * 43


@pytest.mark.parametrize(
    "stored",
    [
        "{PBKDF2}$1$salt$+999999999$00ff",
        "{PBKDF2}$1$salt$999_999_999$00ff",
        "{PBKDF2}$1$salt$\uff19\uff19\uff19\uff19\uff19\uff19\uff19\uff19$00ff",
        "{PBKDF2}$1$salt$3000000$" + "00" * 2000,
        f"$pbkdf2-sha256$+999999999$AAAA${_SHA256}",
        f"{{PBKDF2-SHA256}}999_999_999$AAAA${_SHA256}",
        f"$5$rounds=+999999999$salt${_SHA256}",
        "$argon2id$v=19$m=262144,t=3,p=32768$c2FsdHNhbHQ$YWJj",
    ],
)
def test_no_spelling_of_a_number_hides_what_a_hash_costs(stored: str) -> None:
    """Imported, each kept a thread busy for minutes at every login, or made thousands of them."""
    with pytest.raises(Refusal):
        check_imported(stored)


def test_a_hash_that_is_not_ascii_is_refused_and_never_right() -> None:
    """It was taken, and every login of its account ended in a fault of the server."""
    stored = "$argon2id$v=19$m=64,t=3,p=4$\u00e9$abc"
    with pytest.raises(Refusal):
        check_imported(stored)
    nothing = cast("Any", None)
    assert not Passwords(nothing, nothing)._verify(stored, ["x"]).is_right


@pytest.mark.parametrize("number", [b"9" * 4400, b"9" * 300, b"x"])
def test_an_odd_list_of_another_servers_letters_is_its_fault(number: bytes) -> None:
    """The import ended with a traceback, or went on without the letter."""
    pop3_source.target(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n" + number + b" 1\r\n.\r\n\0\0\0\0")


def test_another_servers_words_do_not_drive_the_terminal() -> None:
    pop3_source.target(b"+OK\r\n-ERR \x1b[2J\x07 no\r\n\0\0\0\0")


@pytest.mark.parametrize("host", ["a" * 70 + ".test", "a..b"])
def test_a_host_without_a_possible_name_is_told(host: str) -> None:
    with pytest.raises(SourceFault, match="is no name of a host"):
        Pop3Source(host, 110, tls="none", context=tls_context(is_verified=False))


@pytest.mark.parametrize("port", ["\u00b2", "9" * 5000, "0", "65536", "-1"])
def test_a_port_is_a_number_of_plain_digits(port: str) -> None:
    """Python's isdigit also says yes to a superscript, which is then no number."""
    with pytest.raises(ValueError, match="write "):
        StaticRoute.parse(f"mail.example.test:{port}")
    with pytest.raises(BadParameter, match="write HOST or HOST:PORT"):
        transfer.host_and_port(f"mail.example.test:{port}", "none")


@pytest.mark.parametrize("port", ["\u00b2", "9" * 5000])
def test_a_port_in_the_configuration_is_explained(port: str) -> None:
    with pytest.raises(ConfigError, match='write "host:port"'):
        config.from_table({"hostname": "a.test", "listen": {"smtp": [f"127.0.0.1:{port}"]}}, "posthouse.toml")


@pytest.mark.parametrize("name", ["\u00b2.pack", "7.pack", "9" * 30 + ".pack", "000000000000007.pack.old"])
def test_a_strange_file_among_the_packs_is_not_a_pack(name: str, tmp_path: Path) -> None:
    """The server did not start with it, or looked for a pack under another name."""
    (tmp_path / name).touch()
    (tmp_path / "000000000000008.pack").touch()
    nothing = cast("Any", None)
    assert Shelf(tmp_path, PosixDisk(), nothing, nothing, nothing).numbers() == [8]


@pytest.mark.parametrize("number", [-1, 1 << 63])
def test_a_note_has_no_number_that_a_database_does_not_take(number: int) -> None:
    """Such damage stopped a rebuild in the middle."""
    octets = msgspec.msgpack.encode([1, number, 1.5, "trace", "a@b.test", 100, True, [], None])
    with pytest.raises(msgspec.MsgspecError):
        notes.decode(octets)


def test_a_record_with_several_rua_asks_for_few_reports_too() -> None:
    """Each tag had the limit of all together."""
    octets = (registry.CORPUS / "report_targets" / "found-several-rua").read_bytes()
    assert octets.count(b"mailto:") > tlsrpt.MAX_URIS
    assert len(tlsrpt.targets_of([octets])) <= tlsrpt.MAX_URIS


def test_a_report_about_the_year_591_can_be_written_again() -> None:
    """The year had three digits then, which is no date (RFC 3339 §5.6)."""
    octets = (registry.CORPUS / "tls_report" / "found-early-year").read_bytes()
    report = read_tls_report(octets)
    assert read_tls_report(render(report)) == report
