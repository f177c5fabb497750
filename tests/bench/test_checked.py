# SPDX-License-Identifier: Apache-2.0
"""The family of checked letters: its letter is one that passes, its DNS says so, and one that was not checked fails
the run."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.checked import AUTHOR, SELECTOR, SHAPES, SignedSender, records, signed
from bench.names import TXT_STRING, line
from bench.peers import MaildirPeer
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from posthouse.mailauth.dkim_verify import verify
from posthouse.mailauth.signatures import SignatureResult

GOOD = b"Authentication-Results: mail.bench.test; spf=pass; dkim=pass; dmarc=pass"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=1024)


def test_the_letter_passes_with_what_its_author_publishes(key: RSAPrivateKey) -> None:
    published = records(key, "192.0.2.7")
    letter = signed(key, 10_240)
    header, _, body = letter.partition(b"\r\n\r\n")
    assert len(body) >= 10_240
    name = f"{SELECTOR}._domainkey.{AUTHOR}"
    found = verify(header + b"\r\n\r\n", body, lambda asked: {name: published[name, "TXT"].encode()}[asked])
    assert [each.result for each in found] == [SignatureResult.PASS]


@pytest.mark.parametrize("address", ["192.0.2.7", "127.0.0.1"])
def test_the_author_lets_the_address_send_and_names_it(key: RSAPrivateKey, address: str) -> None:
    published = records(key, address)
    assert f"ip4:{address} " in published[f"_spf.{AUTHOR}", "TXT"]
    assert published[ipaddress.ip_address(address).reverse_pointer, "PTR"] == f"mail.{AUTHOR}."
    assert published[f"mail.{AUTHOR}", "A"] == address


@pytest.mark.parametrize("octets", [0, 1, TXT_STRING, TXT_STRING + 1, 3 * TXT_STRING])
def test_a_long_text_is_several_strings(octets: int) -> None:
    told = line((("a.example", "TXT"), "x" * octets))
    strings = told.partition(" TXT ")[2].split()
    assert [len(each) - 2 for each in strings] == [TXT_STRING] * (octets // TXT_STRING) + (
        [octets % TXT_STRING] if octets % TXT_STRING else []
    )


class Kept(MaildirPeer):
    """Mailboxes without a server."""

    name = "kept"

    def __init__(self, *headers: bytes) -> None:
        super().__init__()
        self._headers = headers

    def launch(self) -> None: ...

    def version(self) -> str:
        return ""

    def mailbox(self, user: str) -> tuple[int, int]:
        return len(self._headers), len(self._headers) * 20_000

    def headers(self, user: str) -> Iterator[bytes]:
        return iter(self._headers)


@pytest.mark.parametrize("missing", [b"spf=pass", b"dkim=pass", b"dmarc=pass"])
def test_a_letter_that_was_not_checked_fails_the_run(tmp_path: Path, missing: bytes) -> None:
    shape = next(iter(SHAPES.values()))
    sender = SignedSender(Kept(GOOD, GOOD), shape, tmp_path / "letter")
    sender.sent = 2
    sender.check()
    sender = SignedSender(Kept(GOOD, GOOD.replace(missing, b"")), shape, tmp_path / "letter")
    sender.sent = 2
    with pytest.raises(RuntimeError, match=missing.decode()):
        sender.check()
