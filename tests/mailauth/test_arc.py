# SPDX-License-Identifier: Apache-2.0
"""ARC: the published vectors, our own seals over several hops, and what breaks a chain."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posthouse.mail.header import scan_header
from posthouse.mailauth.arc import MAX_CHECKED, MAX_SETS, ArcCheck, Chain, ChainResult
from posthouse.mailauth.arc_seal import seal
from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.dkim import DkimSigner

VECTORS = Path(__file__).resolve().parents[1] / "data" / "arc" / "arc-validation.yml"
Case = tuple[str, bytes, dict[str, bytes], str]


def block(lines: list[str], start: int, indent: int) -> tuple[list[str], int]:
    """The lines of a YAML block scalar, without its indentation, and where it ends."""
    end = start
    while end < len(lines) and (lines[end].startswith(" " * indent) or not lines[end].strip()):
        end += 1
    return [line[indent:] for line in lines[start:end]], end


def cases() -> list[Case]:
    """Name, letter, TXT records and result of each vector: the file is YAML of one shape, read as such."""
    found: list[Case] = []
    for document in VECTORS.read_text("utf-8").split("\n---\n"):
        lines, at, name, letter = document.split("\n"), 0, "", b""
        records: dict[str, bytes] = {}
        wanted: list[tuple[str, bytes, str]] = []
        while at < len(lines):
            line = lines[at].rstrip()
            at += 1
            if heading := re.fullmatch(r"  (\w+):", line):
                name = heading[1]
            elif re.fullmatch(r"    message: +\|", line):
                text, at = block(lines, at, 6)
                while text and not text[-1].strip():
                    text.pop()
                letter = "".join(f"{each}\r\n" for each in text).encode()
            elif result := re.fullmatch(r"    cv: *(\w*)", line):
                wanted.append((name, letter, result[1].lower()))
            elif record := re.fullmatch(r"  (\S+\._domainkey\S*): *(>-|\|-?)", line):
                text, at = block(lines, at, 4)
                records[record[1]] = " ".join(each for each in text if each.strip()).encode()
        found += [(*each[:2], records, each[2]) for each in wanted]
    return found


CASES = cases()


def test_every_vector_is_read() -> None:
    assert len(CASES) == 89
    assert {case[3] for case in CASES} >= {"none", "pass", "fail"}


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_vectors(case: Case) -> None:
    _, letter, records, wanted = case
    header, _, body = letter.partition(b"\r\n\r\n")
    check = ArcCheck(header + b"\r\n")
    for start in range(0, len(body), 7):
        check.update(body[start : start + 7])
    chain = check.judge({name: records.get(name) for name in check.key_names})
    assert chain.result == (wanted or "none"), chain.reason


# --- our own seals --------------------------------------------------------------------------------

_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PUBLIC = base64.b64encode(_PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
_DER = _PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
LETTER = b"From: a@a.test\r\nTo: list@b.test\r\nSubject: Chains\r\nDKIM-Signature: v=1; d=a.test\r\n"
BODY = b"Hello  there\r\n\r\n"


def judged(header: bytes, body: bytes = BODY, *, knows_keys: bool = True) -> tuple[ArcCheck, Chain]:
    check = ArcCheck(header)
    check.update(body)
    records = dict.fromkeys(check.key_names, b"v=DKIM1; k=ed25519; p=" + _PUBLIC) if knows_keys else {}
    return check, check.judge(records)


def sealed(header: bytes, number: int, body: bytes = BODY) -> bytes:
    """The letter after one more hop."""
    check, chain = judged(header, body)
    stream = BodyHash()
    stream.update(body)
    signer = DkimSigner(f"hop{number}.test", "arc", _DER)
    results = b"mx.hop%d.test; spf=pass smtp.mailfrom=a.test;\r\n\tdkim=pass header.d=a.test" % number
    return seal(signer, header, stream, check=check, chain=chain, results=results, timestamp=1e9) + header


def hops(count: int) -> bytes:
    header = LETTER
    for number in range(1, count + 1):
        header = sealed(header, number)
    return header


def test_a_letter_without_a_chain() -> None:
    assert judged(LETTER)[1] == Chain(ChainResult.NONE)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_chain_of_our_own_seals_passes(count: int) -> None:
    header = hops(count)
    assert scan_header(header + b"\r\n").is_well_formed
    assert max(map(len, header.split(b"\r\n"))) <= 78
    sealers = tuple(f"hop{number}.test" for number in range(1, count + 1))
    assert judged(header)[1] == Chain(ChainResult.PASS, count, sealers)


def test_a_hop_that_changes_the_letter_breaks_the_message_signatures_before_it_alone() -> None:
    changed = hops(2).replace(b"Subject: Chains", b"Subject: [list] Chains")
    _, chain = judged(changed)
    assert chain.result is ChainResult.FAIL
    # The hop that changes the letter has checked it before, and seals what it sends on.
    before = judged(hops(2))[1]
    stream = BodyHash()
    stream.update(BODY)
    signer = DkimSigner("list.test", "arc", _DER)
    again = seal(signer, changed, stream, check=ArcCheck(changed), chain=before, results=b"l", timestamp=1e9)
    _, chain = judged(again + changed)
    assert (chain.result, chain.count, chain.oldest_pass) == (ChainResult.PASS, 3, 3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: Chains", b"Subject: chains"),
        (b"spf=pass smtp.mailfrom=a.test;\r\n\tdkim=pass header.d=a.test", b"spf=pass"),
        (b"cv=none", b"cv=pass"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=3"),
        (b"ARC-Authentication-Results: i=1", b"X-Results: i=1"),
        (b"ARC-Message-Signature: i=2;", b"ARC-Message-Signature: i=1;"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2; h=from;"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=0;"),
        (b"ARC-Seal: i=2;", b"ARC-Seal:"),
    ],
)
def test_what_breaks_a_chain(old: bytes, new: bytes) -> None:
    header = hops(2)
    assert old in header
    _, chain = judged(header.replace(old, new, 1))
    assert chain.result is ChainResult.FAIL
    assert chain.reason


def test_a_changed_body_breaks_it() -> None:
    assert judged(hops(2), b"Bye\r\n")[1].result is ChainResult.FAIL


def test_keys_that_cannot_be_looked_up_leave_it_open() -> None:
    check, chain = judged(hops(1), knows_keys=False)
    assert chain.result is ChainResult.TEMPERROR
    signer = DkimSigner("x.test", "arc", _DER)
    assert seal(signer, hops(1), BodyHash(), check=check, chain=chain, results=b"x", timestamp=1e9) == b""


def test_a_broken_chain_is_sealed_as_broken_once() -> None:
    """RFC 8617 §5.1: cv=fail closes the chain, and the seal of that hop covers its own set alone."""
    broken = hops(2).replace(b"Subject: Chains", b"Subject: Changed")
    closed = sealed(broken, 3)
    assert b"ARC-Seal: i=3; a=ed25519-sha256; t=1000000000; cv=fail;" in closed
    assert judged(closed)[1].result is ChainResult.FAIL
    assert sealed(closed, 4) == closed


def test_no_more_sets_than_there_may_be() -> None:
    header = hops(2)
    many = b"".join(b"ARC-Seal: i=%d; a=x\r\n" % number for number in range(3, 3 * MAX_SETS))
    assert judged(many + header)[1].result is ChainResult.FAIL
    last = header.replace(b"i=2", b"i=%d" % MAX_SETS)
    assert sealed(last, 3) == last


def test_a_chain_that_is_too_long_is_not_checked() -> None:
    check, chain = judged(hops(MAX_CHECKED))
    assert chain.result is ChainResult.PASS
    longer = sealed(hops(MAX_CHECKED), MAX_CHECKED + 1)
    check, chain = judged(longer)
    assert chain.result is ChainResult.FAIL
    assert check.key_names == []


def test_a_letter_without_from_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="From"):
        sealed(b"Subject: x\r\n", 1)
