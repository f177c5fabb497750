# SPDX-License-Identifier: Apache-2.0
"""dkimpy as the oracle, both ways: it believes what we sign and seal, and we believe what it does, whatever the letter
looks like; and where a letter was changed on the way both say so."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import cache

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from posthouse.mail.header import scan_header
from posthouse.mailauth.arc import ArcCheck
from posthouse.mailauth.arc_seal import seal
from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.dkim import DkimSigner
from posthouse.mailauth.dkim_verify import verify

DOMAIN, SELECTOR = "author.test", "s1"
RECORD_NAME = f"{SELECTOR}._domainkey.{DOMAIN}"
NOW = 1_700_000_000.0
ALGORITHMS = ("rsa", "ed25519")
FORMS = [(header, body) for header in (b"simple", b"relaxed") for body in (b"simple", b"relaxed")]


@cache
def keys(algorithm: str) -> tuple[bytes, bytes, bytes]:
    """Ours (DER), theirs, and the record."""
    if algorithm == "ed25519":
        young = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        der = young.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        public = young.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return der, base64.b64encode(bytes(range(32))), b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)
    old = generate_private_key(public_exponent=65537, key_size=1024)  # quick to make, and both take it
    der = old.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    pem = old.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = old.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der, pem, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def dns_of(algorithm: str) -> Callable[..., bytes]:
    return lambda name, timeout=5: keys(algorithm)[2] if name.decode().removesuffix(".") == RECORD_NAME else b""


# --- letters --------------------------------------------------------------------------------------

BLANKS = st.sampled_from(["", " ", "  ", "\t", " \t "])
FOLDS = st.sampled_from([" ", "\r\n ", "\r\n\t", "  \r\n  "])
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126) | st.sampled_from("äπ邮"), min_size=1, max_size=12)
NAMES = st.sampled_from(
    ["Subject", "SUBJECT", "To", "Cc", "Date", "Message-ID", "X-Odd", "List-Id", "Received", "Content-Type", "Sender"]
)


@st.composite
def fields(draw: st.DrawFn) -> str:
    words = draw(st.lists(WORDS, max_size=5))
    value = draw(BLANKS) + "".join(word + draw(FOLDS) for word in words) + "end" + draw(BLANKS)
    return f"{draw(NAMES)}:{value}\r\n"


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    found = draw(st.lists(fields(), max_size=8))
    found.insert(draw(st.integers(0, len(found))), f"From:{draw(BLANKS)}a@{DOMAIN}\r\n")
    return "".join(found).encode()


LINES = st.text(st.sampled_from("ab .\tä"), max_size=12).map(str.encode)
BODIES = st.lists(LINES, max_size=8).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
ODD_BODIES = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"\r\n\r\n", b"b  c"]), max_size=12).map(
    lambda pieces: b"".join([*pieces, b"\r\n"])
)


def body_hash(body: bytes) -> BodyHash:
    made = BodyHash()
    made.update(body)
    return made


def ours(algorithm: str, header: bytes, body: bytes) -> bytes:
    return DkimSigner(DOMAIN, SELECTOR, keys(algorithm)[0]).sign(header, body_hash(body), NOW)


def we_believe(algorithm: str, letter: bytes) -> list[str]:
    scan = scan_header(letter)
    record = keys(algorithm)[2]
    found = verify(scan.block, letter[scan.header_size :], lambda name: record if name == RECORD_NAME else None)
    return [each.result for each in found]


def they_believe(algorithm: str, letter: bytes) -> bool:
    try:
        return bool(dkim.DKIM(letter).verify(dnsfunc=dns_of(algorithm)))
    except dkim.ValidationError:
        return False


# --- DKIM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(header=headers(), body=BODIES | ODD_BODIES)
@settings(max_examples=150, deadline=None)
def test_they_believe_what_we_sign(algorithm: str, header: bytes, body: bytes) -> None:
    letter = ours(algorithm, header, body) + header + b"\r\n" + body
    assert they_believe(algorithm, letter)
    assert we_believe(algorithm, letter) == ["pass"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("forms", FORMS, ids=lambda forms: b"-".join(forms).decode())
@given(header=headers(), body=BODIES | ODD_BODIES, length=st.booleans(), more=BODIES)
@settings(max_examples=60, deadline=None)
def test_we_believe_what_they_sign(
    algorithm: str, forms: tuple[bytes, bytes], header: bytes, body: bytes, length: bool, more: bytes
) -> None:
    letter = header + b"\r\n" + body
    signature = dkim.DKIM(letter, signature_algorithm=f"{algorithm}-sha256".encode()).sign(
        SELECTOR.encode(), DOMAIN.encode(), keys(algorithm)[1], canonicalize=forms, length=length
    )
    letter = signature + letter
    assume(they_believe(algorithm, letter))  # it does not believe itself where a name in h= stands for several fields
    assert we_believe(algorithm, letter) == ["pass"]
    if length and body.endswith(b"\r\n"):  # l= lets more follow (RFC 6376 §8.2)
        longer = letter + b"x\r\n" + more
        assert we_believe(algorithm, longer) == (["policy"] if they_believe(algorithm, longer) else ["fail"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(header=headers(), body=BODIES, at=st.integers(0, 10_000), new=st.sampled_from(list(b"aZ:;= .\t0")))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_we_agree_about_letters_that_were_changed(
    algorithm: str, header: bytes, body: bytes, at: int, new: int
) -> None:
    signature = ours(algorithm, header, body)
    letter = bytearray(signature + header + b"\r\n" + body)
    place = len(signature) + at % (len(letter) - len(signature))
    assume(letter[place] not in b"\r\n")
    letter[place] = new
    changed = bytes(letter)
    scan = scan_header(changed)
    assume(scan.is_well_formed)  # what is no field each reads in its own way
    try:
        theirs = they_believe(algorithm, changed)
    except dkim.MessageFormatError:
        assume(False)
    assert (we_believe(algorithm, changed) == ["pass"]) == theirs


# --- ARC ------------------------------------------------------------------------------------------

RESULTS = b"lists.test; dmarc=pass header.from=author.test"


def our_seal(letter: bytes) -> bytes:
    """The letter with one more set of ours."""
    scan = scan_header(letter)
    header, body = scan.block, letter[scan.header_size :]
    check = ArcCheck(header)
    check.update(body)
    chain = check.judge({RECORD_NAME: keys("rsa")[2]})
    signer = DkimSigner(DOMAIN, SELECTOR, keys("rsa")[0])
    made = seal(signer, header, body_hash(body), check=check, chain=chain, results=RESULTS, timestamp=NOW)
    return made + letter


def their_seal(letter: bytes) -> bytes:
    hop = b"hop%d.test" % scan_header(letter).count(b"arc-seal")
    stamped = b"Authentication-Results: " + hop + b"; arc=" + chain_of(letter)[0].encode() + b"\r\n" + letter
    made = dkim.ARC(stamped).sign(SELECTOR.encode(), DOMAIN.encode(), keys("rsa")[1], hop, timestamp=int(NOW))
    assert len(made) == 3
    return b"".join(made) + stamped


def chain_of(letter: bytes) -> tuple[str, int]:
    scan = scan_header(letter)
    check = ArcCheck(scan.block)
    check.update(letter[scan.header_size :])
    chain = check.judge({RECORD_NAME: keys("rsa")[2]})
    return chain.result, chain.count


def their_chain(letter: bytes) -> str:
    result, *_ = dkim.ARC(letter).verify(dnsfunc=dns_of("rsa"))
    return str(result.decode())


def sealers(order: str) -> Iterator[Callable[[bytes], bytes]]:
    for each in order:
        yield our_seal if each == "o" else their_seal


@pytest.mark.parametrize("order", ["o", "t", "oo", "tt", "ot", "to", "oto", "toot"])
@given(header=headers(), body=BODIES)
@settings(max_examples=25, deadline=None)
def test_chains_of_both(order: str, header: bytes, body: bytes) -> None:
    letter = header + b"\r\n" + body
    for hop in sealers(order):
        letter = hop(letter)
    theirs = their_chain(letter)
    if "t" in order:
        assume(theirs == "pass")  # as above
    assert (theirs, chain_of(letter)) == ("pass", ("pass", len(order)))
    changed = letter.replace(b"\r\n\r\n", b"\r\n\r\nchanged\r\n", 1)
    assert (their_chain(changed), chain_of(changed)[0]) == ("fail", "fail")
