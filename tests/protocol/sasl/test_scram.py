# SPDX-License-Identifier: Apache-2.0
"""SCRAM against the vectors of RFC 5802 §5 and RFC 7677 §3, against itself and against nonsense."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocol.sasl import (
    Challenge,
    Proven,
    SaslError,
    ScramSecrets,
    SecretsWanted,
    client_exchange,
    server_exchange,
)
from posthouse.protocol.sasl.scram import derive, digest_size

VECTORS = {
    "SCRAM-SHA-1": (
        "fyko+d2lbbFgONRv9qkxdawL",
        "3rfcNHYJY1ZVvWVs7j",
        "QSXCR+Q6sek8bf92",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}
BOTH = pytest.mark.parametrize("mechanism", sorted(VECTORS))


@BOTH
def test_the_servers_side_of_the_rfc_example(mechanism: str) -> None:
    _, nonce, salt, client_first, server_first, client_final, server_final = VECTORS[mechanism]
    exchange = server_exchange(mechanism, nonce)
    assert exchange.step(None) == Challenge(b"")
    assert exchange.step(client_first) == SecretsWanted("user")
    secrets = derive(mechanism, "pencil", b64decode(salt), 4096)
    assert exchange.secrets(secrets) == Challenge(server_first)
    assert exchange.step(client_final) == Challenge(server_final)
    assert exchange.step(b"") == Proven("user")


@BOTH
def test_the_clients_side_of_the_rfc_example(mechanism: str) -> None:
    nonce, _, _, client_first, server_first, client_final, server_final = VECTORS[mechanism]
    client = client_exchange([mechanism], "user", "pencil", nonce, is_protected=False)
    assert client is not None
    assert client.initial() == client_first
    assert client.respond(server_first) == client_final
    assert not client.is_complete, "the server has proved nothing yet"
    assert client.respond(server_final) == b""
    assert client.is_complete


@BOTH
def test_the_client_notices_a_server_that_does_not_know_the_password(mechanism: str) -> None:
    nonce, _, _, _, server_first, _, _ = VECTORS[mechanism]
    client = client_exchange([mechanism], "user", "pencil", nonce, is_protected=False)
    assert client is not None
    client.initial()
    client.respond(server_first)
    with pytest.raises(SaslError):
        client.respond(b"v=" + b"A" * 27 + b"=")
    assert not client.is_complete


def test_the_client_does_not_work_for_a_hostile_server() -> None:
    nonce, _, _, _, server_first, _, _ = VECTORS["SCRAM-SHA-256"]
    client = client_exchange(["SCRAM-SHA-256"], "user", "pencil", nonce, is_protected=False)
    assert client is not None
    client.initial()
    with pytest.raises(SaslError, match="rounds"):
        client.respond(server_first.replace(b"i=4096", b"i=9999999"))


@BOTH
@pytest.mark.parametrize("flag", ["n", "y"])
def test_an_authorization_identity_that_is_the_name_itself_asks_for_nothing_more(mechanism: str, flag: str) -> None:
    """As PLAIN, and as mutt sends it. The client repeats the whole header in its last message (RFC 5802 §5.1)."""
    _, nonce, salt, _, _, _, _ = VECTORS[mechanism]
    exchange = server_exchange(mechanism, nonce)
    header, bare = f"{flag},a=us=3Der,", "n=us=3Der,r=abc"
    assert exchange.step((header + bare).encode()) == SecretsWanted("us=er")
    challenge = exchange.secrets(derive(mechanism, "pencil", b64decode(salt), 4096)).data.decode()
    kind = "sha1" if mechanism == "SCRAM-SHA-1" else "sha256"
    salted = hashlib.pbkdf2_hmac(kind, b"pencil", b64decode(salt), 4096)
    final = f"c={b64encode(header.encode()).decode()},r=abc{nonce}"
    client_key = hmac.digest(salted, b"Client Key", kind)
    signature = hmac.digest(hashlib.new(kind, client_key).digest(), f"{bare},{challenge},{final}".encode(), kind)
    proof = b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    assert isinstance(exchange.step(f"{final},p={proof}".encode()), Challenge)
    assert exchange.step(b"") == Proven("us=er")


@BOTH
def test_the_header_said_first_must_be_the_one_repeated(mechanism: str) -> None:
    """Another one in between would be somebody else's."""
    _, nonce, salt, _, _, client_final, _ = VECTORS[mechanism]
    exchange = server_exchange(mechanism, nonce)
    client_first = VECTORS[mechanism][3].replace(b"n,,", b"n,a=user,")
    exchange.step(client_first)
    exchange.secrets(derive(mechanism, "pencil", b64decode(salt), 4096))
    with pytest.raises(SaslError, match="bindings"):
        exchange.step(client_final)


@BOTH
def test_a_wrong_proof_ends_the_exchange(mechanism: str) -> None:
    _, nonce, salt, client_first, _, client_final, _ = VECTORS[mechanism]
    exchange = server_exchange(mechanism, nonce)
    exchange.step(client_first)
    exchange.secrets(derive(mechanism, "crayon", b64decode(salt), 4096))
    with pytest.raises(SaslError):
        exchange.step(client_final)
    with pytest.raises(SaslError, match="turn"):
        exchange.step(client_final)


@BOTH
@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n=user,r=abc",
        b"n,,r=abc,n=user",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,a=other,n=user,r=abc",  # an authorization identity
        b"p=tls-unique,,n=user,r=abc",  # channel binding is not offered
        b"p=tls-exporter,,n=user,r=abc",
        b"n,,m=ext,n=user,r=abc",
        b"n,,n=user,r=a\0c",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=" + b"x" * 3000,
    ],
)
def test_a_malformed_first_message_ends_the_exchange(mechanism: str, first: bytes) -> None:
    with pytest.raises(SaslError):
        server_exchange(mechanism, "nonce").step(first)


def test_a_client_that_could_bind_is_told_that_we_cannot() -> None:
    """RFC 5802 §6: the flag y is right when no -PLUS is offered."""
    assert server_exchange("SCRAM-SHA-256", "nonce").step(b"y,,n=user,r=abc") == SecretsWanted("user")


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"c=biws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"c=eSws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=AAAA",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=!!!!",
    ],
)
def test_a_malformed_final_message_ends_the_exchange(final: bytes) -> None:
    _, nonce, salt, client_first, _, _, _ = VECTORS["SCRAM-SHA-256"]
    exchange = server_exchange("SCRAM-SHA-256", nonce)
    exchange.step(client_first)
    exchange.secrets(derive("SCRAM-SHA-256", "pencil", b64decode(salt), 4096))
    with pytest.raises(SaslError):
        exchange.step(final)


def test_messages_out_of_turn_are_refused() -> None:
    exchange = server_exchange("SCRAM-SHA-256", "nonce")
    with pytest.raises(SaslError):
        exchange.secrets(ScramSecrets(b"s" * 16, 4096, b"k" * 32, b"v" * 32))
    exchange.step(b"n,,n=user,r=abc")
    with pytest.raises(SaslError):
        exchange.step(b"n,,n=user,r=abc")


def test_more_after_the_end_is_refused() -> None:
    _, nonce, salt, client_first, _, client_final, _ = VECTORS["SCRAM-SHA-256"]
    exchange = server_exchange("SCRAM-SHA-256", nonce)
    exchange.step(client_first)
    exchange.secrets(derive("SCRAM-SHA-256", "pencil", b64decode(salt), 4096))
    exchange.step(client_final)
    with pytest.raises(SaslError):
        exchange.step(b"more")


NAMES = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=30)


@BOTH
@settings(max_examples=25, deadline=None)
@given(name=NAMES, password=NAMES, other=NAMES)
def test_client_and_server_agree_on_who_knows_the_password(
    mechanism: str, name: str, password: str, other: str
) -> None:
    client = client_exchange([mechanism], name, password, "clientnonce", is_protected=False)
    assert client is not None
    server = server_exchange(mechanism, "servernonce")
    assert server.step(client.initial()) == SecretsWanted(name)
    secrets = derive(mechanism, other, b"sixteen octets!!", 4096)
    assert len(secrets.stored_key) == digest_size(mechanism)
    final = client.respond(server.secrets(secrets).data)
    if other == password:
        verdict = server.step(final)
        assert isinstance(verdict, Challenge)
        assert server.step(client.respond(verdict.data)) == Proven(name)
        assert client.is_complete
    else:
        with pytest.raises(SaslError):
            server.step(final)


@given(st.binary(max_size=200))
def test_nonsense_never_raises_anything_else(octets: bytes) -> None:
    for mechanism in VECTORS:
        for prefix in (b"", b"n,,", b"n,,n=user,r="):
            try:
                assert isinstance(server_exchange(mechanism, "nonce").step(prefix + octets), SecretsWanted)
            except SaslError:
                continue


@given(st.binary(max_size=200))
def test_nonsense_from_a_server_never_raises_anything_else(octets: bytes) -> None:
    client = client_exchange(["SCRAM-SHA-256"], "user", "pencil", "abc", is_protected=False)
    assert client is not None
    client.initial()
    with pytest.raises(SaslError):
        client.respond(octets)
