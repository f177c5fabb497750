# SPDX-License-Identifier: Apache-2.0
"""PLAIN (RFC 4616) and LOGIN, both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.sasl import (
    MECHANISMS,
    Challenge,
    PasswordGiven,
    SaslError,
    ScramSecrets,
    client_exchange,
    prepare,
    server_exchange,
)

SECRETS = ScramSecrets(b"s" * 16, 4096, b"k" * 32, b"v" * 32)


@pytest.mark.parametrize(
    ("message", "name", "password"),
    [
        (b"\0tim\0tanstaaftanstaaf", "tim", "tanstaaftanstaaf"),  # RFC 4616 §4
        (b"tim\0tim\0tanstaaftanstaaf", "tim", "tanstaaftanstaaf"),  # one's own name as authzid
        ("\0爱丽丝\0密码".encode(), "爱丽丝", "密码"),
        ("\0I\u00adX\0p\u00a0w".encode(), "IX", "p\u00a0w"),  # SASLprep on the name; the password is as sent
        (b"\0a\0p=,w", "a", "p=,w"),
    ],
)
def test_plain_reads_name_and_password(message: bytes, name: str, password: str) -> None:
    assert server_exchange("PLAIN", "n").step(message) == PasswordGiven(name, password)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"\0tim",
        b"\0tim\0",
        b"\0\0secret",
        b"\0tim\0sec\0ret",
        b"Ursel\0Kurt\0xipj3plmq",  # RFC 4616 §4: acting for somebody else
        b"\0tim\0\xff\xfe",
        b"\0\xc3\0secret",
        b"\0a\x07b\0secret",  # control characters are prohibited in names
        b"\0" + b"n" * 321 + b"\0secret",
        b"\0tim\0" + b"p" * 1025,
    ],
)
def test_plain_refuses_what_is_malformed(message: bytes) -> None:
    with pytest.raises(SaslError):
        server_exchange("PLAIN", "n").step(message)


def test_plain_asks_when_there_is_no_initial_response() -> None:
    exchange = server_exchange("PLAIN", "n")
    assert exchange.step(None) == Challenge(b"")
    assert exchange.step(b"\0a\0b") == PasswordGiven("a", "b")


def test_login_asks_for_name_and_password() -> None:
    exchange = server_exchange("LOGIN", "n")
    assert exchange.step(None) == Challenge(b"Username:")
    assert exchange.step(b"tim") == Challenge(b"Password:")
    assert exchange.step(b"secret") == PasswordGiven("tim", "secret")


def test_login_takes_the_name_as_initial_response() -> None:
    exchange = server_exchange("LOGIN", "n")
    assert exchange.step(b"tim") == Challenge(b"Password:")


@pytest.mark.parametrize("messages", [[b""], [b"tim", b""], [b"t\0m"], [b"tim", b"a\0b"], [b"\xff"]])
def test_login_refuses_what_is_malformed(messages: list[bytes]) -> None:
    exchange = server_exchange("LOGIN", "n")
    *before, last = messages
    for message in before:
        exchange.step(message)
    with pytest.raises(SaslError):
        exchange.step(last)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_mechanisms_without_secrets_refuse_them(mechanism: str) -> None:
    with pytest.raises(SaslError):
        server_exchange(mechanism, "n").secrets(SECRETS)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@given(
    name=st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=60),
    password=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=60),
)
def test_client_and_server_understand_each_other(mechanism: str, name: str, password: str) -> None:
    client = client_exchange([mechanism], name, password, "nonce", is_protected=True)
    assert client is not None
    server = server_exchange(mechanism, "n")
    answer = server.step(client.initial())
    while isinstance(answer, Challenge):
        answer = server.step(client.respond(answer.data))
    assert answer == PasswordGiven(name, password)
    assert client.is_complete


@pytest.mark.parametrize(("mechanism", "questions"), [("PLAIN", 0), ("LOGIN", 2)])
def test_a_client_gives_no_more_than_it_has(mechanism: str, questions: int) -> None:
    """A server that goes on asking gets the exchange cancelled, not the password again."""
    client = client_exchange([mechanism], "a", "b", "nonce", is_protected=True)
    assert client is not None
    client.initial()
    for _ in range(questions):
        client.respond(b"more")
    with pytest.raises(SaslError):
        client.respond(b"more")


def test_the_strongest_mechanism_is_chosen_and_no_password_goes_unprotected() -> None:
    def chosen(offered: list[str], *, is_protected: bool) -> str | None:
        exchange = client_exchange(offered, "a", "b", "nonce", is_protected=is_protected)
        return None if exchange is None else exchange.mechanism

    everything = ["LOGIN", "PLAIN", "SCRAM-SHA-1", "scram-sha-256", "XOAUTH2"]
    assert chosen(everything, is_protected=True) == "SCRAM-SHA-256"
    assert chosen(["LOGIN", "PLAIN"], is_protected=True) == "PLAIN"
    assert chosen(["LOGIN", "PLAIN"], is_protected=False) is None
    assert chosen(["PLAIN", "SCRAM-SHA-1"], is_protected=False) == "SCRAM-SHA-1"
    assert chosen(["XOAUTH2"], is_protected=True) is None


def test_the_table_names_its_rows() -> None:
    assert list(MECHANISMS) == ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"]
    for name, row in MECHANISMS.items():
        assert row.server("n").mechanism == row.client("a", "b", "n").mechanism == row.name == name
    with pytest.raises(SaslError):
        server_exchange("CRAM-MD5", "n")


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 §3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
    ],
)
def test_saslprep_examples(text: str, prepared: str) -> None:
    assert prepare(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "", "\u00ad", "😀", "a\nb"])
def test_saslprep_prohibits(text: str) -> None:
    with pytest.raises(SaslError):
        prepare(text)
