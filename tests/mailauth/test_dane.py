# SPDX-License-Identifier: Apache-2.0
"""DANE: usable records, digests, the server's own certificate, trust anchors with their chains and names."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth import dane
from posthouse.mailauth import der as der_reader
from posthouse.mailauth.dane import DaneFault, authenticate, usable
from posthouse.mailauth.der import subject_public_key_info
from posthouse.ports import TlsaRecord
from tests.mailauth.certificates import CLIENT_AUTH, NOW, SERVER_AUTH, Issued, issue, record

HOST = "mx.bob.test"
COMPRESSED, UNCOMPRESSED = PublicFormat.CompressedPoint, PublicFormat.UncompressedPoint
ROOT = issue("root", is_ca=True)
MIDDLE = issue("middle", ROOT, is_ca=True)
LEAF = issue(HOST, MIDDLE, names=[HOST])
OTHER = issue(HOST, names=[HOST])


def check(
    leaf: Issued, *records: TlsaRecord, names: tuple[str, ...] = (HOST,), chain: list[bytes] | None = None
) -> str:
    return authenticate(leaf.chain if chain is None else chain, usable(records), names, NOW)


def refusal(leaf: Issued, *records: TlsaRecord, chain: list[bytes] | None = None) -> str:
    with pytest.raises(DaneFault) as found:
        check(leaf, *records, chain=chain)
    assert str(found.value)
    return found.value.result


# --- which records count --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "selector", "matching", "data", "is_usable"),
    [
        (3, 1, 1, bytes(32), True),
        (3, 0, 2, bytes(64), True),
        (2, 0, 1, bytes(32), True),
        (2, 1, 0, LEAF.public_key, True),
        (3, 0, 0, LEAF.der, True),
        (0, 1, 1, bytes(32), False),  # PKIX-TA, RFC 7672 §3.1.3
        (1, 1, 1, bytes(32), False),  # PKIX-EE
        (4, 1, 1, bytes(32), False),
        (255, 1, 1, bytes(32), False),  # PrivCert
        (3, 2, 1, bytes(32), False),
        (3, 1, 3, bytes(32), False),
        (3, 1, 1, bytes(31), False),
        (3, 1, 2, bytes(32), False),
        (3, 1, 1, b"", False),
        (3, 0, 0, b"no certificate", False),
        (2, 1, 0, b"no key", False),
        (2, 1, 0, b"", False),
    ],
    ids=lambda value: "data" if isinstance(value, bytes) else None,  # new keys in every run
)
def test_usable(usage: int, selector: int, matching: int, data: bytes, is_usable: bool) -> None:
    assert bool(usable([TlsaRecord(usage, selector, matching, data)])) == is_usable


def test_of_each_kind_the_strongest_digest_counts() -> None:
    """RFC 7671 §9: a weak digest that was left behind, or forged, is not looked at; whole values always are."""
    weak, strong = record(3, 1, 1, LEAF), record(3, 1, 2, OTHER)
    whole, elsewhere = record(3, 1, 0, OTHER), record(2, 1, 1, ROOT)
    assert usable([weak, strong, whole, elsewhere, weak]) == (strong, whole, elsewhere)
    assert usable([weak, TlsaRecord(3, 1, 2, bytes(10))]) == (weak,), "a malformed one does not count as the strongest"


def test_so_many_records_are_looked_at() -> None:
    """An answer by TCP has room for some 1,500, and a stranger's host may make us look at them again and again."""
    many = [TlsaRecord(3, 1, 1, number.to_bytes(32)) for number in range(1500)]
    assert usable(many) == tuple(many[: dane.MAX_RECORDS])


# --- DANE-EE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_end_entity(selector: int, matching: int) -> None:
    assert check(LEAF, record(3, selector, matching, LEAF)) == "DANE-EE"
    assert refusal(OTHER, record(3, selector, matching, LEAF)) == "validation-failure"


def test_names_and_dates_do_not_count_for_the_end_entity() -> None:
    old = issue("elsewhere.test", names=["elsewhere.test"], begins=-400, ends=-300)
    assert check(old, record(3, 1, 1, old)) == "DANE-EE"


def test_one_of_several_records_is_enough() -> None:
    assert check(LEAF, record(3, 1, 1, OTHER), record(3, 1, 1, LEAF)) == "DANE-EE"
    assert check(LEAF, record(3, 1, 1, OTHER), record(2, 0, 1, ROOT)) == "DANE-TA"


def test_an_issuer_is_no_end_entity() -> None:
    assert refusal(LEAF, record(3, 1, 1, ROOT)) == "validation-failure"


def test_a_certificate_that_nobody_can_read_may_be_named_all_the_same() -> None:
    broken = bytearray(LEAF.der)
    broken[-1] ^= 1  # its signature
    assert authenticate([bytes(broken)], [record(3, 1, 1, LEAF)], (HOST,), NOW) == "DANE-EE"
    garbage = TlsaRecord(3, 0, 1, hashlib.sha256(b"garbage").digest())
    assert authenticate([b"garbage"], [garbage], (HOST,), NOW) == "DANE-EE"


def test_a_certificate_of_another_version_is_unreadable() -> None:
    """Fuzzing found that it is said otherwise than anything else that cannot be read."""
    strange = LEAF.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x40")
    assert refusal(LEAF, record(2, 0, 1, ROOT), chain=[strange, *LEAF.chain[1:]]) == "certificate-not-trusted"
    assert usable([record(2, 0, 0, strange)]) == ()


# --- DANE-TA --------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [ROOT, MIDDLE])
@pytest.mark.parametrize(("selector", "matching"), [(0, 1), (1, 1), (0, 2), (1, 2), (0, 0), (1, 0)])
def test_trust_anchor(anchor: Issued, selector: int, matching: int) -> None:
    assert check(LEAF, record(2, selector, matching, anchor)) == "DANE-TA"


def test_the_server_must_show_its_anchor_unless_it_stands_in_dns() -> None:
    short = LEAF.chain[:2]
    assert refusal(LEAF, record(2, 0, 1, ROOT), chain=short) == "certificate-not-trusted"
    assert check(LEAF, record(2, 0, 0, ROOT), chain=short) == "DANE-TA"  # RFC 7671 §5.2.2
    assert check(LEAF, record(2, 1, 0, ROOT), chain=short) == "DANE-TA"  # §5.2.3: signed by that key
    assert check(LEAF, record(2, 1, 0, MIDDLE), chain=short[:1]) == "DANE-TA"
    assert refusal(LEAF, record(2, 1, 0, OTHER), chain=short) == "certificate-not-trusted"


@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
    ],
)
def test_a_bare_key_of_any_kind(key: object) -> None:
    root = issue("root", is_ca=True, key=key())  # type: ignore[operator]  # a table of functions
    leaf = issue(HOST, root, names=[HOST])
    assert check(leaf, record(2, 1, 0, root), chain=leaf.chain[:1]) == "DANE-TA"
    assert refusal(OTHER, record(2, 1, 0, root)) == "certificate-not-trusted"


def test_a_bare_key_counts_beside_anchors_that_fail() -> None:
    """RFC 7671 §5.2.3: one record that does not help hides no other."""
    short = LEAF.chain[:2]
    old = issue("old root", is_ca=True, ends=-1)
    assert check(LEAF, record(2, 0, 0, OTHER), record(2, 1, 0, ROOT), chain=short) == "DANE-TA"
    assert check(LEAF, record(2, 0, 1, old), record(2, 1, 0, ROOT), chain=[*short, old.der]) == "DANE-TA"


def test_a_bare_key_that_has_signed_more_than_the_host_needs() -> None:
    """Whatever else of that key is shown, and wherever it stands."""
    extra = issue("another", ROOT, is_ca=True)
    for chain in ([LEAF.der, MIDDLE.der, extra.der], [LEAF.der, extra.der, MIDDLE.der]):
        assert check(LEAF, record(2, 1, 0, ROOT), chain=chain) == "DANE-TA"
        assert refusal(LEAF, record(2, 1, 0, OTHER), chain=chain) == "certificate-not-trusted"


def test_an_expired_issuer_is_not_saved_by_its_bare_key() -> None:
    """§5.2.3 is for keys of which no certificate was shown."""
    old = issue("root", is_ca=True, ends=-1)
    leaf = issue(HOST, old, names=[HOST])
    assert refusal(leaf, record(2, 1, 0, old)) == "certificate-not-trusted"
    assert check(leaf, record(2, 1, 0, old), chain=leaf.chain[:1]) == "DANE-TA"


@pytest.mark.parametrize("which", [0, 1])
def test_years_that_no_calendar_has_are_not_trusted(which: int) -> None:
    """A date of the year 0 is sound ASN.1; asking for it raises."""
    times = [b"\x17\x0d200101000000Z", b"\x18\x0f20990101000000Z"]
    times[which] = b"\x18\x0f00000101000000Z"
    strange = with_validity(LEAF.der, b"".join(times))
    x509.load_der_x509_certificate(strange)
    assert refusal(LEAF, record(2, 0, 1, ROOT), chain=[strange, *LEAF.chain[1:]]) == "certificate-not-trusted"
    assert refusal(LEAF, record(2, 0, 0, strange), chain=[strange]) == "certificate-not-trusted"
    assert authenticate([strange], [record(3, 0, 0, strange)], (HOST,), NOW) == "DANE-EE"


def with_validity(der: bytes, times: bytes) -> bytes:
    """The certificate with other dates; its signature does not fit any more."""
    content, _ = der_reader._content(der, 0, len(der))
    start, end = der_reader._content(der, content, len(der))
    at = start
    for _ in ("version", "serialNumber", "signature", "issuer"):
        at = der_reader._skip(der, at, end)
    body = der[start:at] + element(times) + der[der_reader._skip(der, at, end) : end]
    return element(element(body) + der[end:])


def element(octets: bytes) -> bytes:
    size = len(octets)
    width = (size.bit_length() + 7) // 8
    return b"\x30" + (bytes([size]) if size < 128 else bytes([0x80 | width]) + size.to_bytes(width)) + octets


def test_a_certificate_of_its_own_is_no_trust_anchor() -> None:
    """Its digest with usage 2 says nothing of who has signed it."""
    assert refusal(OTHER, record(2, 0, 1, OTHER)) == "certificate-not-trusted"
    assert check(OTHER, record(2, 0, 0, OTHER)) == "DANE-TA", "published in full (RFC 7671 §5.2)"


def expired(**fields: object) -> Issued:
    return issue(HOST, MIDDLE, names=[HOST], begins=-50, ends=-10, **fields)  # type: ignore[arg-type]


def under(middle: Issued) -> Issued:
    return issue(HOST, middle, names=[HOST])


KEY_USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
ELSEWHERE = x509.NameConstraints([x509.DNSName("alice.test")], None)
HERE = x509.NameConstraints([x509.DNSName("bob.test")], None)


@pytest.mark.parametrize(
    ("leaf", "result"),
    [
        (expired(), "certificate-expired"),
        (issue(HOST, MIDDLE, names=[HOST], begins=10), "certificate-not-trusted"),
        (under(issue("middle", ROOT, is_ca=False)), "certificate-not-trusted"),
        (under(issue("middle", ROOT, has_constraints=False)), "certificate-not-trusted"),
        (under(issue("middle", ROOT, is_ca=True, ends=-1)), "certificate-not-trusted"),
        (under(issue("middle", ROOT, is_ca=True, extensions=[(KEY_USAGE, True)])), "certificate-not-trusted"),
        (under(issue("middle", ROOT, is_ca=True, extensions=[(ELSEWHERE, True)])), "certificate-not-trusted"),
        (
            issue(HOST, ROOT, names=[HOST], extensions=[(x509.ExtendedKeyUsage([CLIENT_AUTH]), False)]),
            "certificate-not-trusted",
        ),
        (issue("mx.eve.test", ROOT, names=["mx.eve.test"]), "certificate-host-mismatch"),
        (issue(HOST, ROOT, names=["mx.eve.test"]), "certificate-host-mismatch"),
        (issue("mx.eve.test", ROOT), "certificate-host-mismatch"),
        (issue(HOST, ROOT, names=["*.mx.bob.test"]), "certificate-host-mismatch"),
        (issue(HOST, ROOT, names=["*.test"]), "certificate-host-mismatch"),
        (issue(HOST, ROOT, names=["m*.bob.test"]), "certificate-host-mismatch"),
    ],
)
def test_chains_that_do_not_hold(leaf: Issued, result: str) -> None:
    assert refusal(leaf, record(2, 0, 1, ROOT)) == result


@pytest.mark.parametrize(
    "leaf",
    [
        issue(HOST, ROOT),  # the common name, as there is no other (RFC 7672 §3.2.3)
        issue("whatever", ROOT, names=["MX.Bob.Test"]),
        issue("whatever", ROOT, names=["*.bob.test"]),
        under(issue("middle", ROOT, is_ca=True, extensions=[(HERE, True)])),
        issue(HOST, ROOT, names=[HOST], extensions=[(x509.ExtendedKeyUsage([SERVER_AUTH]), False)]),
    ],
)
def test_chains_that_hold(leaf: Issued) -> None:
    assert check(leaf, record(2, 0, 1, ROOT)) == "DANE-TA"


def test_constraints_of_the_anchor_itself_count() -> None:
    root = issue("root", is_ca=True, path_length=0)
    leaf = under(issue("middle", root, is_ca=True))
    assert refusal(leaf, record(2, 0, 1, root)) == "certificate-not-trusted"
    old = issue("root", is_ca=True, ends=-1)
    assert refusal(issue(HOST, old, names=[HOST]), record(2, 0, 1, old)) == "certificate-not-trusted"


def test_a_chain_that_someone_else_signed() -> None:
    forged = issue("root", is_ca=True)  # the same name, another key
    leaf = issue(HOST, forged, names=[HOST])
    assert refusal(leaf, record(2, 0, 1, ROOT), chain=[leaf.der, ROOT.der]) == "certificate-not-trusted"


@pytest.mark.parametrize("names", [(HOST,), ("bob.test", HOST), ("mx.elsewhere.test", "bob.test", HOST)])
def test_any_reference_name_is_enough(names: tuple[str, ...]) -> None:
    assert check(LEAF, record(2, 0, 1, ROOT), names=names) == "DANE-TA"


def test_no_certificate_at_all() -> None:
    assert refusal(LEAF, record(3, 1, 1, LEAF), chain=[]) == "validation-failure"


def test_an_endless_chain_is_looked_at_for_a_while() -> None:
    chain = [LEAF.der, *([OTHER.der] * 2000), *LEAF.chain[1:]]
    assert refusal(LEAF, record(2, 0, 1, ROOT), chain=chain) == "certificate-not-trusted"


def test_alike_issuers_are_looked_at_once() -> None:
    """The ways through them are as many as their number to the power of the chain's length."""
    key = ec.generate_private_key(ec.SECP256R1())
    alike = [issue("X", is_ca=True, key=key) for _ in range(8)]
    leaf = issue(HOST, alike[0], names=[HOST])
    chain = [leaf.der, *(each.der for each in alike), ROOT.der]
    assert refusal(leaf, record(2, 0, 1, ROOT), chain=chain) == "certificate-not-trusted"
    assert len(dane._intermediates([dane._Presented.read(der) for der in chain[1:]])) == 2


def test_one_key_in_every_form_is_one_key() -> None:
    """A point on a curve is written in three ways (SEC 1 §2.3.3); the signature of each form is good."""
    own = issue("X", is_ca=True)
    short, whole = (own.key.public_key().public_bytes(Encoding.X962, form) for form in (COMPRESSED, UNCOMPRESSED))
    forms = [with_point(own, point) for point in (whole, short, bytes([6 + whole[-1] % 2]) + whole[1:])]
    assert len({subject_public_key_info(der) for der in forms}) == 3
    assert len(dane._intermediates([dane._Presented.read(der) for der in forms])) == 1
    leaf = issue(HOST, own, names=[HOST])
    assert refusal(leaf, record(2, 0, 1, ROOT), chain=[leaf.der, *forms, ROOT.der]) == "certificate-not-trusted"


def with_point(issued: Issued, point: bytes) -> bytes:
    """The same certificate with its key in these octets, signed anew."""
    der, old, fields = issued.der, issued.public_key, issued.certificate.tbs_certificate_bytes
    start, end = der_reader._content(old, 0, len(old))
    algorithm = old[start : der_reader._skip(old, start, end)]
    key = element(algorithm + bytes([0x03, len(point) + 1, 0]) + point)
    start, end = der_reader._content(fields, 0, len(fields))
    signed = element(fields[start:end].replace(old, key))
    start, end = der_reader._content(der, 0, len(der))
    start = der_reader._skip(der, start, end)
    signature = issued.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    how = der[start : der_reader._skip(der, start, end)]
    return element(signed + how + bytes([0x03, len(signature) + 1, 0]) + signature)


def test_an_authority_whose_certificate_is_shown_twice() -> None:
    """Its own, and the one that the anchor has signed for it."""
    own = issue("X", is_ca=True)
    crossed = issue("X", ROOT, is_ca=True, key=own.key)
    leaf = issue(HOST, own, names=[HOST])
    for twins in ([own, crossed], [crossed, own]):
        chain = [leaf.der, *(each.der for each in twins), ROOT.der]
        assert check(leaf, record(2, 0, 1, ROOT), chain=chain) == "DANE-TA"
        assert check(leaf, record(2, 0, 1, own), chain=chain) == "DANE-TA"


# --- the key in a certificate ---------------------------------------------------------------------


@pytest.mark.parametrize("issued", [ROOT, MIDDLE, LEAF, issue("rsa", key=rsa.generate_private_key(65537, 2048))])
def test_the_public_key_as_it_stands_there(issued: Issued) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    written = issued.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert subject_public_key_info(issued.der) == written


@given(st.data())
def test_what_is_cut_off_has_no_key(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(LEAF.der) - 1))
    with pytest.raises(ValueError, match=r"cut off|SEQUENCE|length"):
        subject_public_key_info(LEAF.der[:size])


@given(st.binary(max_size=200))
def test_no_octets_break_it(octets: bytes) -> None:
    try:
        found = subject_public_key_info(octets)
    except ValueError:
        return
    assert found in octets


@given(st.binary(max_size=300), st.binary(max_size=80), st.integers(0, 255), st.integers(0, 3), st.integers(0, 3))
def test_no_chain_and_no_record_break_it(der: bytes, data: bytes, usage: int, selector: int, matching: int) -> None:
    records = usable([TlsaRecord(usage, selector, matching, data), record(2, 0, 1, ROOT)])
    with pytest.raises(DaneFault):
        authenticate([der, *LEAF.chain[1:]], records, (HOST,), NOW)
