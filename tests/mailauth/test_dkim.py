# SPDX-License-Identifier: Apache-2.0
"""DKIM: the published vectors, our own signatures, and what breaks them."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.header import scan_header
from posthouse.mailauth.canonical import SIMPLE, BodyHash, relaxed_body, relaxed_field, simple_body
from posthouse.mailauth.dkim import OVERSIGNED, DkimSigner
from posthouse.mailauth.dkim_verify import MAX_SIGNATURES, DkimCheck, DkimResult, Verification, verify

DATA = Path(__file__).resolve().parents[1] / "data" / "dkim"
RECORDS = {
    match[1]: match[2].encode()
    for match in re.finditer(r"^([^#:\n]+): '(.*)'$", (DATA / "dns-records.yml").read_text(), re.MULTILINE)
}

# RFC 8463 appendix A.1 and A.2: the secret keys of the samples.
ED25519_SECRET = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
RSA_SECRET = b"""-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""
RFC_8463_SIGNATURES = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
""".replace(b"\n", b"\r\n")


def _letter(name: str) -> tuple[bytes, bytes]:
    octets = re.sub(rb"\r?\n", b"\r\n", (DATA / name).read_bytes())
    size = scan_header(octets).header_size
    return octets[: size - 2], octets[size:]


def _der(key: rsa.RSAPrivateKey | Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _rsa_key() -> rsa.RSAPrivateKey:
    key = load_pem_private_key(RSA_SECRET, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


RSA_KEY = _rsa_key()
ED25519_KEY = Ed25519PrivateKey.from_private_bytes(ED25519_SECRET)
SIGNERS = {
    "rsa": DkimSigner("example.test", "r", _der(RSA_KEY)),
    "ed25519": DkimSigner("example.test", "e", _der(ED25519_KEY)),
}


def _record(kind: str) -> bytes:
    if kind == "rsa":
        public = RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        public = ED25519_KEY.public_key().public_bytes_raw()
    return b"v=DKIM1; k=" + kind.encode() + b"; p=" + base64.b64encode(public)


KEYS = {"r._domainkey.example.test": _record("rsa"), "e._domainkey.example.test": _record("ed25519")}


def _hash(body: bytes) -> BodyHash:
    found = BodyHash()
    found.update(body)
    return found


def _results(found: list[Verification]) -> list[str]:
    return [one.result.value for one in found]


# --- vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("rfc6376.signed.msg", 2), ("ed25519test2.msg", 1), ("test2.message", 1)])
def test_published_letters_pass(name: str, count: int) -> None:
    assert _results(verify(*_letter(name), RECORDS.get)) == ["pass"] * count


def test_the_signatures_printed_in_rfc_8463_pass() -> None:
    """RFC 8463 appendix A.3, relaxed/relaxed."""
    header, body = _letter("rfc6376.msg")
    found = verify(RFC_8463_SIGNATURES + header, body, RECORDS.get)
    assert [(one.result, one.algorithm) for one in found] == [
        (DkimResult.PASS, "ed25519-sha256"),
        (DkimResult.PASS, "rsa-sha256"),
    ]


def test_a_letter_whose_key_is_gone() -> None:
    found = verify(*_letter("message.mbox"), RECORDS.get)
    assert [(one.result, one.reason) for one in found] == [(DkimResult.PERMERROR, "no key for the signature")]


@pytest.mark.parametrize("name", ["badversion.txt", "badk.txt", "test_bad.txt", "test_tlsrpt.txt"])
def test_key_records_to_refuse(name: str) -> None:
    header, body = _letter("rfc6376.msg")
    signature = DkimSigner("example.com", "test", _der(RSA_KEY)).sign(header, _hash(body), 0)
    record = (DATA / name).read_bytes()
    assert _results(verify(signature + header, body, lambda _: record)) == ["permerror"]


@pytest.mark.parametrize("name", ["test.txt", "test2.txt"])
def test_key_records_to_take(name: str) -> None:
    header, body = _letter("rfc6376.msg")
    signature = DkimSigner("example.com", "test", _der(RSA_KEY)).sign(header, _hash(body), 0)
    record = (DATA / name).read_bytes()
    assert _results(verify(signature + header, body, lambda _: record)) == ["pass"]


# --- our own signatures ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize(
    "name", ["rfc6376.msg", "test.message", "test_extra.message", "ed25519test.msg", "test2.message"]
)
def test_what_we_sign_verifies(kind: str, name: str) -> None:
    header, body = _letter(name)
    field = SIGNERS[kind].sign(header, _hash(body), 1700000000.7)
    assert field.startswith(b"DKIM-Signature: v=1; a=")
    assert field.endswith(b"\r\n")
    assert b"t=1700000000;" in field
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert _results(verify(field + header, body, KEYS.get))[0] == "pass"


def test_two_keys_share_one_body_hash() -> None:
    header, body = _letter("test.message")
    shared = _hash(body)
    fields = b"".join(signer.sign(header, shared, 0) for signer in SIGNERS.values())
    assert _results(verify(fields + header, body, KEYS.get)) == ["pass", "pass"]


def test_relaxed_signatures_survive_refolding() -> None:
    header = b"From: a@example.test\r\nSubject: one two\r\n\tthree\r\n"
    field = SIGNERS["ed25519"].sign(header, _hash(b"a  b \r\n\r\n"), 0)
    changed = b"FROM:a@example.test  \r\nSubject:  one\r\n two\t three\r\n"
    assert _results(verify(field + changed, b"a b\r\n", KEYS.get)) == ["pass"]


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"From: b@example.test\r\nSubject: x\r\n", b"text\r\n"),
        (b"From: a@example.test\r\nFrom: ceo@bank.test\r\nSubject: x\r\n", b"text\r\n"),
        (b"From: ceo@bank.test\r\nFrom: a@example.test\r\nSubject: x\r\n", b"text\r\n"),
        (b"Subject: more\r\nFrom: a@example.test\r\nSubject: x\r\n", b"text\r\n"),
        (b"From: a@example.test\r\nSubject: x\r\nContent-Type: text/html\r\n", b"text\r\n"),
        (b"From: a@example.test\r\nSubject: x\r\nReply-To: ceo@bank.test\r\n", b"text\r\n"),
        (b"From: a@example.test\r\nSubject: x\r\n", b"text!\r\n"),
        (b"From: a@example.test\r\nSubject: x\r\n", b""),
    ],
)
def test_changing_or_adding_anything_that_people_see_fails(header: bytes, body: bytes) -> None:
    for signer in SIGNERS.values():
        field = signer.sign(b"From: a@example.test\r\nSubject: x\r\n", _hash(b"text\r\n"), 0)
        assert _results(verify(field + header, body, KEYS.get)) == ["fail"]


def test_trace_fields_may_be_added() -> None:
    header = b"From: a@example.test\r\nSubject: x\r\n"
    field = SIGNERS["rsa"].sign(header, _hash(b""), 0)
    added = b"Return-Path: <x@y.test>\r\nReceived: by z.test; date\r\nList-Id: <l.x.test>\r\n"
    assert _results(verify(added + field + header, b"", KEYS.get)) == ["pass"]


def test_a_letter_without_from_is_not_signed() -> None:
    """RFC 6376 §5.4."""
    header, body = _letter("test_nofrom.message")
    with pytest.raises(ValueError, match="From"):
        SIGNERS["rsa"].sign(header, _hash(body), 0)


def test_from_is_the_first_name_signed_and_oversigned() -> None:
    field = SIGNERS["ed25519"].sign(b"From: a@example.test\r\n", _hash(b""), 0)
    names = re.sub(rb"\s", b"", field.split(b"h=")[1].split(b";")[0]).split(b":")
    assert names == [b"from", *OVERSIGNED]


@pytest.mark.parametrize(
    "key", [b"", b"rubbish", _der(ec.derive_private_key(7, ec.SECP256R1()))], ids=["empty", "rubbish", "wrong kind"]
)
def test_a_key_that_cannot_sign_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the cryptography package's
        DkimSigner("example.test", "x", key)


# --- what makes a signature bad -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        (b"v=1", b"v=2", "permerror"),
        (b"v=1; ", b"", "permerror"),
        (b"v=1", b"v=1; v=1", "permerror"),
        (b"h=from:from", b"h=to:to", "permerror"),
        (b"d=example.test", b"d=example.test; i=@other.test", "permerror"),
        (b"relaxed/relaxed", b"odd/relaxed", "permerror"),
        (b"relaxed/relaxed", b"relaxed/odd", "permerror"),
        (b"ed25519-sha256", b"ed25519-sha1", "permerror"),
        (b"ed25519-sha256", b"rsa-sha256", "permerror"),
        (b"t=0;", b"t=0; x=1;", "fail"),
        (b"t=0;", b"t=9999999999;", "fail"),
        (b"t=0;", b"t=zero;", "permerror"),
        (b"t=0;", b"t=0; l=99;", "permerror"),
        (b"t=0;", b"t=0; q=other;", "permerror"),
        (b"t=0;", b"t=1;", "fail"),
        (b"s=e", b"s=nokey", "permerror"),
        (b"bh=", b"bh=!", "permerror"),
        (b"c=", b"=", "permerror"),
    ],
)
def test_bad_signatures(old: bytes, new: bytes, result: str) -> None:
    header = b"From: a@example.test\r\n"
    field = SIGNERS["ed25519"].sign(header, _hash(b"text\r\n"), 0)
    assert old in field
    found = verify(field.replace(old, new, 1) + header, b"text\r\n", KEYS.get, now=1000.0)
    assert _results(found) == [result]
    assert found[0].reason


@pytest.mark.parametrize(
    ("length", "body", "result"),
    [
        (6, b"text\r\n", "pass"),
        (4, b"text\r\n", "pass"),
        (6, b"text\r\n \r\n\r\n", "pass"),  # in relaxed form there is no more
        (6, b"text\r\nmore\r\n", "policy"),
        (6, b"text\r\n\r\nx", "policy"),
        (4, b"text, and more\r\n", "policy"),
        (2, b"text\r\n", "policy"),
        (0, b"text\r\n", "policy"),
        (0, b"\r\n", "pass"),
        (7, b"text\r\n", "permerror"),
    ],
)
def test_a_body_that_goes_on_behind_its_signature_is_not_believed(length: int, body: bytes, result: str) -> None:
    """RFC 6376 §8.2: whoever has one such letter may put his own text behind it."""

    class Cut(BodyHash):
        def digest(self) -> bytes:
            return hashlib.sha256(b"text\r\n"[:length]).digest()

    header = b"From: a@example.test\r\n"
    start, _, _ = SIGNERS["ed25519"].sign(header, Cut(), 0.0).rpartition(b"b=")
    with_length = start.replace(b" v=1;", b" v=1; l=%d;" % length)
    value = with_length.partition(b":")[2] + b"b="
    signed = b"from:a@example.test\r\n" + relaxed_field(b"dkim-signature", value)
    letter = with_length + b"b=" + SIGNERS["ed25519"].signature_of(signed) + b"\r\n" + header
    for step in (1, len(body)):
        check = DkimCheck(letter)
        for at in range(0, len(body), step):
            check.update(body[at : at + step])
        (found,) = check.judge({name: KEYS.get(name) for name in check.key_names})
        assert (found.result, found.result == "pass") == (result, not found.reason), found
    forged = letter.replace(b"a@example", b"b@example")
    assert _results(verify(forged, body, KEYS.get)) == ["permerror" if result == "permerror" else "fail"]


@pytest.mark.parametrize(
    "change",
    [
        (b"p=", b"x="),
        (b"v=DKIM1", b"v=DKIM2"),
        (b"k=ed25519", b"k=ed25519; h=sha1"),
        (b"k=ed25519", b"k=ed25519; s=tlsrpt"),
        (b"k=ed25519; ", b""),
        (b"p=", b"p=AAAA"),
        (b"p=", b"p=; x="),
    ],
)
def test_bad_key_records(change: tuple[bytes, bytes]) -> None:
    header = b"From: a@example.test\r\n"
    field = SIGNERS["ed25519"].sign(header, _hash(b""), 0)
    record = _record("ed25519").replace(*change)
    assert _results(verify(field + header, b"", lambda _: record)) == ["permerror"]


def test_short_rsa_keys_are_refused() -> None:
    """RFC 8301 §3.2. The key is 512 bits of a fixed modulus: nothing secret, nothing to be made."""
    header = b"From: a@example.test\r\n"
    numbers = rsa.RSAPublicNumbers(65537, (1 << 511) + 187)
    try:
        short = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        pytest.skip("this library does not even hold keys of 512 bits")
    field = SIGNERS["rsa"].sign(header, _hash(b""), 0)
    record = b"v=DKIM1; p=" + base64.b64encode(short)
    assert _results(verify(field + header, b"", lambda _: record)) == ["permerror"]


def test_only_some_signatures_are_looked_at() -> None:
    header = b"From: a@example.test\r\n"
    field = SIGNERS["ed25519"].sign(header, _hash(b""), 0)
    assert len(verify(field * 50 + header, b"", KEYS.get)) == MAX_SIGNATURES


@given(st.text(alphabet="v=1;ab \r\n\tDKIMhfrom:s", max_size=80))
def test_verification_never_fails_on_any_tags(text: str) -> None:
    header = b"DKIM-Signature: " + text.encode() + b"\r\nFrom: a@x.test\r\n"
    verify(header, b"", KEYS.get, now=0.0)


# --- canonical forms ------------------------------------------------------------------------------


def test_the_rfcs_canonical_forms() -> None:
    """RFC 6376 §3.4.5 and the empty bodies of §3.4.3 and §3.4.4."""
    assert relaxed_field(b"A", b" X") == b"a:X"
    assert relaxed_field(b"B ".strip(), b" Y\t\r\n\tZ  ") == b"b:Y Z"
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert relaxed_body(body) == b" C\r\nD E\r\n"
    assert simple_body(body) == b" C \r\nD \t E\r\n"
    assert base64.b64encode(BodyHash().digest()) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert (
        base64.b64encode(hashlib.sha256(simple_body(b"")).digest()) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    )


def _relaxed_by_the_letter(body: bytes) -> bytes:
    """RFC 6376 §3.4.4, line by line."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


_BODIES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"b c", b"\r\n\r\n"]), max_size=30)


@given(_BODIES)
def test_the_body_form_is_that_of_the_rfc(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert relaxed_body(body) == _relaxed_by_the_letter(body)


@given(_BODIES, st.data())
def test_the_stream_hashes_as_the_whole_however_it_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    body = b"".join(pieces)
    expected = hashlib.sha256(_relaxed_by_the_letter(body)).digest()
    bytewise, cut = BodyHash(), BodyHash()
    for number in range(len(body)):
        bytewise.update(body[number : number + 1])
    position = 0
    while position < len(body):
        step = data.draw(st.integers(1, 7))
        cut.update(body[position : position + step])
        cut.digest()  # asking changes nothing
        position += step
    assert bytewise.digest() == cut.digest() == _hash(body).digest() == expected


@pytest.mark.parametrize("size", [2046, 2047, 2048, 4094, 65_503, 65_504, 65_505, 100_000])
@pytest.mark.parametrize("limit", [None, 2047, 3000, 70_000])
def test_long_chunks_are_hashed_whole(size: int, limit: int | None) -> None:
    body = bytes(range(97, 123)) * (size // 26 + 1)
    body = body[: size - 2] + b"\r\n"
    stream = BodyHash(SIMPLE, limit)
    stream.update(body)
    assert stream.digest() == hashlib.sha256(body[:limit]).digest()


def test_a_body_of_empty_lines_alone_is_empty_and_costs_nothing() -> None:
    found = BodyHash()
    for _ in range(50):
        found.update(b" \r\n" * 10_000)
    assert found.digest() == BodyHash().digest()
    found.update(b"a")
    assert found.digest() == hashlib.sha256(b"\r\n" * 500_000 + b"a\r\n").digest()
