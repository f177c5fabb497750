# SPDX-License-Identifier: Apache-2.0
"""International domain names in signatures and in SPF (RFC 8616): U-labels are read, A-labels asked for and told."""

from __future__ import annotations

import base64
import ipaddress

import pytest

from posthouse.mailauth.canonical import BodyHash, relaxed_field
from posthouse.mailauth.dkim import DkimSigner
from posthouse.mailauth.dkim_verify import DkimCheck, verify
from posthouse.mailauth.spf import SpfResult, check_mail_from
from tests.fakes import FakeResolver
from tests.mailauth.sender import _DER, KEY_RECORD
from tests.virtual_loop import run

A_LABEL, U_LABEL = "xn--r8jz45g.test", "例え.test"
FROM = f" 送信者@{U_LABEL}".encode()


def signature(domain: str, *, selector: str = "s1", identity: str = "") -> bytes:
    """A letter's header, signed as a domain that is written so."""
    tags = f" v=1; a=ed25519-sha256; c=relaxed/relaxed; d={domain}; s={selector};"
    tags += f" i={identity};" if identity else ""
    digest = base64.b64encode(BodyHash().digest()).decode()
    value = f"{tags}\r\n\th=from; bh={digest};\r\n\tb=".encode()
    signed = relaxed_field(b"from", FROM) + b"\r\n" + relaxed_field(b"dkim-signature", value)
    signer = DkimSigner(A_LABEL, "s1", _DER)
    return b"DKIM-Signature:" + value + signer.signature_of(signed) + b"\r\nFrom:" + FROM + b"\r\n"


@pytest.mark.parametrize("domain", [A_LABEL, U_LABEL, "例え.TEST"])
@pytest.mark.parametrize("identity", ["", f"@{A_LABEL}", f"送信者@{U_LABEL}", f"@mail.{U_LABEL}"])
def test_both_forms_are_one_domain(domain: str, identity: str) -> None:
    (found,) = verify(signature(domain, identity=identity), b"", {f"s1._domainkey.{A_LABEL}": KEY_RECORD}.get)
    assert (found.result, found.domain, found.reason) == ("pass", A_LABEL, "")


def test_a_selector_too() -> None:
    check = DkimCheck(signature(U_LABEL, selector="鍵"))
    assert check.key_names == [f"xn--5y4a._domainkey.{A_LABEL}"]


def test_the_form_is_part_of_what_was_signed() -> None:
    changed = signature(U_LABEL).replace(f"d={U_LABEL}".encode(), f"d={A_LABEL}".encode())
    (found,) = verify(changed, b"", {f"s1._domainkey.{A_LABEL}": KEY_RECORD}.get)
    assert found.result == "fail"


@pytest.mark.parametrize(
    ("domain", "identity", "reason"),
    [
        ("例え..test", "", "d= is no domain name"),
        ("\u2028.test", "", "d= is no domain name"),
        (U_LABEL, "@別.test", "i= is not within d="),
        (U_LABEL, f"@別{U_LABEL}", "i= is not within d="),
    ],
)
def test_what_is_no_name_or_another_one(domain: str, identity: str, reason: str) -> None:
    (found,) = verify(signature(domain, identity=identity), b"", lambda _: KEY_RECORD)
    assert (found.result, found.reason) == ("permerror", reason)


@pytest.mark.parametrize(
    ("record", "result"),
    [
        (b"v=spf1 exists:%{l}.x.test -all", SpfResult.FAIL),
        (b"v=spf1 include:%{s}.x.test ?all", SpfResult.NEUTRAL),
        (b"v=spf1 a:%{l}.x.test mx:%{l}.x.test ptr:%{l}.x.test +all", SpfResult.PASS),
        (b"v=spf1 redirect=%{l}.x.test", SpfResult.PERMERROR),
        (b"v=spf1 exists:%{o}.x.test -all", SpfResult.PASS),
    ],
)
def test_a_local_part_that_is_no_label_matches_nothing(record: bytes, result: SpfResult) -> None:
    dns = FakeResolver()
    dns.text(A_LABEL, record)
    dns.host(f"{A_LABEL}.x.test", "127.0.0.2")
    address = ipaddress.ip_address("192.0.2.7")
    checking = check_mail_from(dns, address, f"送信者@{A_LABEL}", "mx.test", receiver="here.test", now=0.0)
    assert run(checking).result is result
    assert all(name.isascii() for name in dns.asked)
