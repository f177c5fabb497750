# SPDX-License-Identifier: Apache-2.0
"""Signatures, certificates, times and JSON of ACME: the RFCs' examples, and what is not well formed."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from posthouse.services.acme.jws import AccountKey, bind_account, decode, encode, make_ec_key
from posthouse.services.acme.renewal import Window, ask_again_in, renewal_at, retry_in, window_of
from posthouse.services.acme.words import (
    AcmeFault,
    Authorization,
    Directory,
    Order,
    Problem,
    RenewalInfo,
    is_nonce,
    is_token,
    read,
    read_problem,
)
from posthouse.services.acme.x509 import (
    CLOCK_SLACK,
    LeafFacts,
    TooEarly,
    challenge_certificate,
    key_digest,
    key_pem,
    make_key,
    read_key,
    read_leaf,
    signing_request,
    take_chain,
)
from tests.fakes import EPOCH, FakeEntropy
from tests.mailauth.certificates import NOW, issue

DAY = 86400.0
# RFC 7515 A.3.1
PRIVATE = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
X, Y = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
# RFC 9773 Appendix A
EXAMPLE = b"""-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
"""


@pytest.fixture
def key() -> AccountKey:
    return AccountKey(ec.derive_private_key(int.from_bytes(decode(PRIVATE), "big"), ec.SECP256R1()))


def test_the_public_half(key: AccountKey) -> None:
    assert key.jwk == {"kty": "EC", "crv": "P-256", "x": X, "y": Y}
    assert AccountKey.from_pem(key.pem).jwk == key.jwk


def test_the_thumbprint_is_of_the_required_members_in_order(key: AccountKey) -> None:
    text = f'{{"crv":"P-256","kty":"EC","x":"{X}","y":"{Y}"}}'
    digest = hashes.Hash(hashes.SHA256())
    digest.update(text.encode())
    assert key.thumbprint == encode(digest.finalize())
    assert key.authorization("token") == f"token.{key.thumbprint}"


def test_a_request(key: AccountKey) -> None:
    jws = json.loads(key.sign(b'{"a":1}', {"nonce": "n", "url": "https://ca.test/x", "kid": "https://ca.test/1"}))
    header = json.loads(decode(jws["protected"]))
    assert header == {"alg": "ES256", "nonce": "n", "url": "https://ca.test/x", "kid": "https://ca.test/1"}
    assert decode(jws["payload"]) == b'{"a":1}'
    signature = decode(jws["signature"])
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    signed = f"{jws['protected']}.{jws['payload']}".encode()
    key.private.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))


def test_post_as_get_has_an_empty_payload(key: AccountKey) -> None:
    assert json.loads(key.sign(b"", {}))["payload"] == ""


def test_a_binding_has_no_nonce(key: AccountKey) -> None:
    bound = bind_account(key, url="https://ca.test/new", key_id="k", mac_key=b"secret")
    assert json.loads(decode(bound["protected"])) == {"alg": "HS256", "kid": "k", "url": "https://ca.test/new"}
    assert json.loads(decode(bound["payload"])) == key.jwk


@given(st.binary(max_size=100))
def test_base64url_round_trip(octets: bytes) -> None:
    assert decode(encode(octets)) == octets
    assert "=" not in encode(octets)


@pytest.mark.parametrize("text", ["YQ==", "YQ=", "é"])
def test_base64url_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"padding|ascii"):
        decode(text)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_an_account_key_that_is_none(pem: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's words
        AccountKey.from_pem(pem)


def test_an_account_key_of_another_kind() -> None:
    with pytest.raises(ValueError, match="P-256"):
        AccountKey.from_pem(key_pem(make_key("rsa", FakeEntropy())))


def test_keys_follow_from_chance() -> None:
    first, again, other = (make_ec_key(FakeEntropy(seed)) for seed in (1, 1, 2))
    assert first.private_numbers() == again.private_numbers() != other.private_numbers()


# --- certificates ---------------------------------------------------------------------------------


def test_the_id_of_a_certificate() -> None:
    """RFC 9773 §4.1."""
    assert read_leaf(EXAMPLE).renewal_id == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_keys_and_requests(kind: Any) -> None:
    made = make_key(kind, FakeEntropy())
    assert key_digest(read_key(key_pem(made))) == key_digest(made)
    csr = x509.load_der_x509_csr(decode(signing_request(made, ["a.test", "*.b.test"])))
    assert csr.is_signature_valid
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test", "*.b.test"]
    assert len(csr.subject) == 0


def test_a_chain_must_be_for_key_and_names() -> None:
    made = make_ec_key(FakeEntropy())
    pem = challenge_certificate("a.test", "proof", EPOCH, FakeEntropy(1))
    with pytest.raises(AcmeFault, match="another key"):
        take_chain(pem, made, ["a.test"], EPOCH)
    own = read_key(pem[: pem.index(b"-----BEGIN CERT")])
    assert b"PRIVATE" not in take_chain(pem, own, ["a.test"], EPOCH)
    with pytest.raises(AcmeFault, match=r"without b\.test"):
        take_chain(pem, own, ["a.test", "b.test"], EPOCH)
    with pytest.raises(AcmeFault, match="no certificate"):
        take_chain(b"<html>", made, ["a.test"], EPOCH)


@pytest.mark.parametrize(("begins", "ends", "fault"), [(-40, -1, AcmeFault), (1, 40, TooEarly), (-40, 40, None)])
def test_the_signers_time_counts_and_that_of_those_above_it_does_not(
    begins: float, ends: float, fault: type[AcmeFault] | None
) -> None:
    old = issue("root", is_ca=True, begins=-400, ends=-100)
    leaf = issue("a.test", issue("signer", old, is_ca=True, begins=begins, ends=ends), names=["a.test"])
    pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in leaf.chain)
    if fault is None:
        assert take_chain(pem, leaf.key, ["a.test"], NOW) == pem
        return
    with pytest.raises(AcmeFault, match="is the clock right") as caught:
        take_chain(pem, leaf.key, ["a.test"], NOW)
    assert type(caught.value) is fault


def test_a_chain_must_be_good_now() -> None:
    """The server's own certificate and its signer; clocks may differ by minutes."""
    pem = challenge_certificate("a.test", "proof", EPOCH, FakeEntropy(1))  # from an hour before, for a week
    start = pem.index(b"-----BEGIN CERT")
    own, leaf = read_key(pem[:start]), pem[start:]
    begins, ends = EPOCH - 3600, EPOCH - 3600 + 7 * DAY
    for now in (begins - CLOCK_SLACK, begins, ends - 1):
        assert take_chain(leaf, own, ["a.test"], now) == leaf
    with pytest.raises(TooEarly, match="begins at"):
        take_chain(leaf, own, ["a.test"], begins - CLOCK_SLACK - 1)
    with pytest.raises(AcmeFault, match="has ended at"):
        take_chain(leaf, own, ["a.test"], ends)
    old = challenge_certificate("ca.test", "proof", EPOCH - 8 * DAY, FakeEntropy(2))
    old = old[old.index(b"-----BEGIN CERT") :]
    with pytest.raises(AcmeFault, match="has ended at"):
        take_chain(leaf + old, own, ["a.test"], EPOCH)
    assert take_chain(leaf + leaf + old, own, ["a.test"], EPOCH), "of an old root verifiers have another way"


def test_a_certificate_with_a_key_that_nobody_knows() -> None:
    """Found by fuzzing: the library does not call that a ValueError."""
    der = base64.b64decode(b"".join(EXAMPLE.splitlines()[1:-1]))
    odd = der.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce43030107"))
    assert odd != der
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(odd) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match="cannot be read"):
        read_leaf(pem)
    with pytest.raises(AcmeFault, match="no certificate"):
        take_chain(pem, make_ec_key(FakeEntropy()), ["a.test"], EPOCH)


def test_a_key_with_a_password() -> None:
    pem = make_ec_key(FakeEntropy()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    with pytest.raises(ValueError, match="Password"):
        read_key(pem)


# --- times ----------------------------------------------------------------------------------------

FACTS = LeafFacts(("a.test",), EPOCH, EPOCH + 90 * DAY, "", "", "")


@given(st.floats(0, 1))
def test_renewal_is_with_a_third_left_or_a_little_before(chance: float) -> None:
    assert EPOCH + 57 * DAY <= renewal_at(FACTS, None, chance) <= EPOCH + 60 * DAY + 1


@given(st.floats(0, 1), st.floats(0, 1e9), st.floats(1, 1e9))
def test_renewal_is_within_the_window(chance: float, start: float, length: float) -> None:
    window = Window(start, start + length)
    last = EPOCH + 87 * DAY
    assert min(window.start, last) <= renewal_at(FACTS, window, chance) <= min(window.end, last) + 1


def test_a_window_after_the_end_does_not_put_the_renewal_off() -> None:
    window = Window(EPOCH + 100 * DAY, EPOCH + 3650 * DAY)
    assert renewal_at(FACTS, window, 0.5) == EPOCH + 87 * DAY


@pytest.mark.parametrize(
    ("said", "pause"), [(None, 21600.0), (0.0, 60.0), (59.0, 60.0), (3600.0, 3600.0), (1e9, 86400.0)]
)
def test_when_to_ask_again(said: float | None, pause: float) -> None:
    assert ask_again_in(said) == pause


def test_retries() -> None:
    assert [retry_in(failures, None) for failures in (1, 2, 6, 7, 1000)] == [600, 1800, 21600, 21600, 21600]
    assert retry_in(1, 86400.0) == 86400.0
    assert retry_in(1, 1.0) == 600
    hours = LeafFacts(("a.test",), EPOCH, EPOCH + 6 * 3600, "", "", "")
    assert [retry_in(failures, None, hours) for failures in (1, 6)] == [600, 720]
    assert retry_in(6, 3600.0, hours) == 3600


# --- words ----------------------------------------------------------------------------------------


def test_an_order_with_members_that_nobody_knows() -> None:
    order = read(b'{"status":"ready","finalize":"https://ca.test/f","new":[1,{"x":2}]}', Order, "order")
    assert (order.status, order.finalize, order.certificate) == ("ready", "https://ca.test/f", None)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"[]",
        b"{}",
        b'{"status":1}',
        b"\xff",
        b'{"status":"ready","authorizations":[' + b'"x",' * 200 + b'"x"]}',
        b'{"status":"ready","finalize":"' + b"x" * 3000 + b'"}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_an_order_that_is_none(octets: bytes) -> None:
    with pytest.raises(AcmeFault, match="order is not what RFC 8555 describes"):
        read(octets, Order, "order")


def test_a_directory_needs_its_members() -> None:
    with pytest.raises(AcmeFault):
        read(b'{"newNonce":"x"}', Directory, "directory")


def test_a_problem_with_subproblems() -> None:
    """RFC 8555 §6.7.1."""
    problem = read_problem(
        b'{"type":"urn:ietf:params:acme:error:malformed","detail":"Some of the identifiers\\nrequested\\u001b[2J",'
        b'"subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no","identifier":'
        b'{"type":"dns","value":"a.test"}}]}'
    )
    assert problem is not None
    assert problem.kind == "malformed"
    assert problem.text() == "Some of the identifiers requested [2J (malformed); a.test: no (caa)"


@pytest.mark.parametrize("octets", [b"", b"busy", b"[]", b'{"type":1}', b"\xff", b'{"subproblems":' * 5000])
def test_a_problem_that_is_none(octets: bytes) -> None:
    assert read_problem(octets) is None


def test_problems_within_problems_are_told_one_level_deep() -> None:
    deep = b'{"detail":"x","subproblems":[' * 300 + b"]}" * 300
    problem = read_problem(deep)
    assert problem is not None
    assert problem.text() == "x (about:blank); x (about:blank)"


def test_a_long_problem_is_cut() -> None:
    assert len(Problem(detail="x" * 100_000).text()) <= 500


def test_windows() -> None:
    """RFC 9773 §4.2: one that ends before it begins is no answer."""
    text = b'{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"},"explanationURL":"u"}'
    assert window_of(read(text, RenewalInfo, "x")) == Window(1735790400.0, 1735876800.0, "u")
    assert window_of(read(text.replace(b"01-03", b"01-01"), RenewalInfo, "x")) is None
    assert window_of(read(text.replace(b"01-03", b"01-02"), RenewalInfo, "x")) is None
    with pytest.raises(AcmeFault):
        read(text.replace(b"01-03", b"13-03"), RenewalInfo, "x")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA", True),
        ("short", False),
        ("../../../../etc/passwd-or-so", False),
        ("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ+PCt92wr/oA", False),
        ("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA=", False),
        ("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA\n", False),
        ("x" * 513, False),
    ],
)
def test_tokens(text: str, is_one: bool) -> None:
    assert is_token(text) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("abc_-9", True), ("", False), ("a+b/", False), ("YQ==", False), ("é", False), ("x" * 4000, False)],
)
def test_nonces(text: str, is_one: bool) -> None:
    assert is_nonce(text) is is_one


MEMBERS = st.sampled_from(["status", "identifier", "type", "value", "challenges", "token", "url"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda each: st.lists(each) | st.dictionaries(MEMBERS, each),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_is_said_is_read_or_refused(value: object) -> None:
    octets = msgspec.json.encode(value)
    for kind in (Authorization, Order, Directory, RenewalInfo):
        try:
            found = read(octets, kind, "word")
        except AcmeFault:
            continue
        assert isinstance(found, kind)
