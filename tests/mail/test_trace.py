# SPDX-License-Identifier: Apache-2.0
"""Trace fields: what they say, that a client cannot write into them, and what they tell about loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import parse_address
from posthouse.mail.header import scan_header, unfold
from posthouse.mail.trace import (
    MAX_RECEIVED,
    Hop,
    delivered_before,
    delivered_to,
    is_looping,
    received,
    return_path,
    was_delivered_to,
    with_protocol,
)

BOB = parse_address("bob@bob.test")
HOP = Hop(
    helo="laptop",
    peer_address="192.0.2.1",
    by="mail.example.test",
    protocol="ESMTPSA",
    ident="abc123",
    when=1700000000.9,
    peer_name="laptop.example.test",
    tls_version="TLSv1.3",
    tls_cipher="TLS_AES_256_GCM_SHA384",
)


def test_received_says_everything_in_lines_of_78_columns() -> None:
    assert received(HOP, BOB) == (
        b"Received: from laptop (laptop.example.test [192.0.2.1])\r\n"
        b"\tby mail.example.test (posthouse) with ESMTPSA\r\n"
        b"\t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid abc123 for <bob@bob.test>;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("helo", "peer", "expected"),
    [
        ("a.test", "192.0.2.1", b"from a.test ([192.0.2.1])"),
        ("A.Test", "2001:db8::1", b"from a.test ([IPv6:2001:db8::1])"),
        ("[192.0.2.9]", "192.0.2.1", b"from [192.0.2.9] ([192.0.2.1])"),
        ("a b", "192.0.2.1", b"from [192.0.2.1] (helo=a?b)"),
        ("x) by evil.test (y", "192.0.2.1", b"from [192.0.2.1] (helo=x??by?evil.test??y)"),
        ("a\r\nX: y", "192.0.2.1", b"from [192.0.2.1] (helo=a??X:?y)"),
        ("", "192.0.2.1", b"from [192.0.2.1] (no helo)"),
        ("localhost", "", b"from localhost"),
        ("", "unix", b"from localhost (no helo)"),
    ],
)
def test_what_the_client_says_stays_inside_its_clause(helo: str, peer: str, expected: bytes) -> None:
    field = received(replace(HOP, helo=helo, peer_address=peer, peer_name=""))
    assert unfold(field).startswith(b"Received: " + expected + b"\tby mail.example.test")


@given(st.text(max_size=400), st.text(max_size=80), st.text(max_size=40))
def test_no_text_of_a_peer_makes_a_second_field_or_a_long_line(helo: str, name: str, cipher: str) -> None:
    octets = received(replace(HOP, helo=helo, peer_name=name, tls_cipher=cipher), BOB)
    scan = scan_header(octets + b"\r\n")
    assert [field.name for field in scan.fields] == [b"Received"]
    assert scan.is_well_formed
    assert max(map(len, octets.split(b"\r\n"))) < 998


@pytest.mark.parametrize(
    ("extended", "lmtp", "tls", "auth", "utf8", "expected"),
    [
        (False, False, False, False, False, "SMTP"),
        (True, False, False, False, False, "ESMTP"),
        (True, False, True, False, False, "ESMTPS"),
        (True, False, False, True, False, "ESMTPA"),
        (True, False, True, True, False, "ESMTPSA"),
        (True, True, False, False, False, "LMTP"),
        (True, True, True, True, False, "LMTPSA"),
        (True, False, False, False, True, "UTF8SMTP"),
        (True, False, True, True, True, "UTF8SMTPSA"),
        (True, True, True, False, True, "UTF8LMTPS"),
    ],
)
def test_protocol_types(*, extended: bool, lmtp: bool, tls: bool, auth: bool, utf8: bool, expected: str) -> None:
    """RFC 3848, RFC 6531 §4.3."""
    found = with_protocol(is_extended=extended, is_lmtp=lmtp, is_tls=tls, is_authenticated=auth, is_smtputf8=utf8)
    assert found == expected


def test_return_path_and_delivered_to() -> None:
    assert return_path(None) == b"Return-Path: <>\r\n"
    assert return_path(BOB) == b"Return-Path: <bob@bob.test>\r\n"
    assert delivered_to(parse_address('"a b"@bob.test')) == b'Delivered-To: "a b"@bob.test\r\n'
    assert delivered_to(parse_address("用户@bob.test")) == "Delivered-To: 用户@bob.test\r\n".encode()


def test_a_letter_that_was_here_before_is_known() -> None:
    scan = scan_header(b"Delivered-To: BOB@bob.test\r\nDelivered-To: x@y.test\r\n\r\n")
    carol = parse_address("carol@bob.test")
    assert was_delivered_to(scan, BOB)
    assert not was_delivered_to(scan, carol)
    assert delivered_before(scan, [carol, BOB]) == [BOB]
    assert delivered_before(scan_header(b"\r\n"), [BOB]) == []


def test_a_letter_that_passed_too_many_hosts_loops() -> None:
    """RFC 5321 §6.3."""
    field = received(HOP)
    assert not is_looping(scan_header(field * MAX_RECEIVED + b"\r\n"))
    assert is_looping(scan_header(field * (MAX_RECEIVED + 1) + b"\r\n"))
    assert is_looping(scan_header(field * 3 + b"\r\n"), 2)
