# SPDX-License-Identifier: Apache-2.0
"""Pop3Server where transcripts cannot go: misuse, time, stopping, octets that must not be copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.ports import TlsInfo
from posthouse.protocol import inbox
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.pop3 import events as ev
from posthouse.protocol.pop3 import table
from posthouse.protocol.pop3.server import BATCH, Pop3Server
from posthouse.protocol.pop3.table import COMMANDS, State

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")


def opened(**options: bool) -> Pop3Server:
    engine = Pop3Server(**options)
    assert isinstance(engine.next_event(), ev.Opened)
    engine.ok("ready")
    engine.data_to_send()
    return engine


def logged_in() -> Pop3Server:
    engine = opened()
    for line in (b"USER alice\r\n", b"PASS secret\r\n"):
        engine.receive_data(line)
        engine.next_event()
        engine.ok()
    engine.data_to_send()
    return engine


def test_one_event_at_a_time() -> None:
    engine = opened()
    engine.receive_data(b"CAPA\r\nQUIT\r\n")
    assert isinstance(engine.next_event(), ev.Capa)
    assert engine.next_event() is Signal.PAUSED
    engine.listing("capabilities", [])
    with pytest.raises(LocalProtocolError):
        engine.ok()
    assert engine.next_event() == ev.Quit(is_update=False)


def test_challenge_only_in_auth() -> None:
    engine = opened()
    engine.receive_data(b"USER alice\r\n")
    engine.next_event()
    with pytest.raises(LocalProtocolError):
        engine.challenge(b"")


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_command_is_refused_outside_of_its_states(verb: bytes) -> None:
    """The table is the law: what is not in a row gets -ERR and changes nothing."""
    arguments = {b"USER": b" a", b"PASS": b" a", b"AUTH": b" PLAIN", b"TOP": b" 1 1", b"RETR": b" 1", b"DELE": b" 1"}
    for make, state in ((opened, State.AUTHORIZATION), (logged_in, State.TRANSACTION)):
        engine = make()
        engine.receive_data(verb + arguments.get(verb, b"") + b"\r\n")
        event = engine.next_event()
        if state not in COMMANDS[verb].legal:
            assert isinstance(event, ev.CommandError), (verb, state)
            engine.err(event.text, event.code)
            assert engine.state is state


def test_the_list_of_mechanisms_is_no_login() -> None:
    engine = opened()
    engine.receive_data(b"AUTH\r\n")
    assert isinstance(engine.next_event(), ev.AuthList)
    engine.listing("mechanisms", ["PLAIN"])
    assert engine.state is State.AUTHORIZATION


def test_passwords_wait_for_tls_where_the_listener_says_so() -> None:
    engine = opened(offers_tls=True, requires_tls=True)
    for line in (b"USER alice\r\n", b"PASS secret\r\n"):
        engine.receive_data(line)
        event = engine.next_event()
        assert isinstance(event, ev.CommandError)
        engine.err(event.text, event.code)
    engine.receive_data(b"STLS\r\n")
    assert isinstance(engine.next_event(), ev.Stls)
    engine.ok("go")
    assert engine.next_event() is Signal.START_TLS
    assert engine.next_event() is Signal.NEED_DATA
    engine.tls_started(TLS)
    engine.receive_data(b"USER alice\r\n")
    assert engine.next_event() == ev.User("alice")


def test_implicit_tls_before_the_greeting() -> None:
    engine = Pop3Server(offers_tls=True, requires_tls=True)
    engine.tls_started(TLS)
    engine.next_event()
    engine.ok("ready")
    engine.receive_data(b"USER alice\r\n")
    assert engine.next_event() == ev.User("alice")


def test_password_in_the_event_is_not_printed() -> None:
    assert "secret" not in repr(ev.Pass("alice", "secret"))
    assert "secret" not in repr(ev.AuthResponse(b"secret"))


def test_disconnect_is_told_once_and_removes_nothing() -> None:
    engine = logged_in()
    engine.receive_data(b"DELE 1\r\nQUI")
    assert engine.next_event() == ev.Dele(1)
    engine.receive_data(b"")
    engine.ok()
    assert engine.next_event() == ev.Disconnected()
    assert engine.next_event() is Signal.CLOSE
    assert engine.next_event() is Signal.CLOSE


def test_time_out_ends_without_update() -> None:
    """RFC 1939 §3."""
    engine = logged_in()
    assert engine.next_event() is Signal.NEED_DATA
    assert engine.wait_limit() == table.COMMAND_WAIT >= 600
    engine.timed_out()
    assert engine.next_event() is Signal.CLOSE
    assert engine.data_to_send() == []  # "without … sending any response to the client"


def test_stopping_says_goodbye_when_idle() -> None:
    engine = logged_in()
    assert engine.next_event() is Signal.NEED_DATA
    engine.shut_down()
    assert engine.next_event() is Signal.CLOSE
    assert b"".join(engine.data_to_send()).startswith(b"-ERR [SYS/TEMP]")


def test_stopping_lets_the_answer_out_first() -> None:
    engine = logged_in()
    engine.receive_data(b"NOOP\r\nNOOP\r\n")
    engine.next_event()
    engine.shut_down()
    engine.ok("done")
    assert engine.next_event() is Signal.CLOSE
    assert b"".join(engine.data_to_send()).startswith(b"+OK done\r\n-ERR [SYS/TEMP]")


def test_letter_without_dot_lines_is_not_copied() -> None:
    engine = logged_in()
    content = memoryview(b"Subject: x\r\n\r\nbody\r\n")
    engine.receive_data(b"RETR 1\r\n")
    engine.next_event()
    engine.letter("20 octets", [b"", content], has_dot_lines=False)
    sent = engine.data_to_send()
    assert any(part is content for part in sent)
    assert b"".join(sent) == b"+OK 20 octets\r\nSubject: x\r\n\r\nbody\r\n.\r\n"


def test_a_large_letter_is_made_piece_by_piece() -> None:
    """What is stuffed is copied; of a letter of any size no more than a batch is in memory at once."""
    engine = logged_in()
    content = memoryview(b".\r\n" * 1_000_000)
    engine.receive_data(b"RETR 1\r\nNOOP\r\n")
    engine.next_event()
    engine.letter("3000000 octets", [content], has_dot_lines=True)
    sent = [b"".join(engine.data_to_send())]
    while engine.next_event() is Signal.MORE:
        sent.append(b"".join(engine.data_to_send()))
    assert engine.next_event() is Signal.PAUSED  # NOOP waits: it was not looked at before the letter was out
    engine.ok()
    assert max(map(len, sent)) < 3 * BATCH
    assert len(sent) > 8
    assert b"".join(sent) == b"+OK 3000000 octets\r\n" + b"..\r\n" * 1_000_000 + b".\r\n"


def test_a_large_listing_is_made_piece_by_piece() -> None:
    engine = logged_in()
    engine.receive_data(b"LIST\r\n")
    engine.next_event()
    engine.rows("100000 letters", b"%d %d", ((number, 10_000) for number in range(1, 100_001)))
    sent = [b"".join(engine.data_to_send())]
    while engine.next_event() is Signal.MORE:
        sent.append(b"".join(engine.data_to_send()))
    assert max(map(len, sent)) < 2 * BATCH
    assert b"".join(sent).endswith(b"\r\n100000 10000\r\n.\r\n")


def test_stopping_does_not_speak_into_a_letter() -> None:
    engine = logged_in()
    engine.receive_data(b"RETR 1\r\n")
    engine.next_event()
    engine.letter("1500000 octets", [b".\r\n" * 500_000], has_dot_lines=True)
    engine.shut_down()
    sent = b"".join(engine.data_to_send())
    while engine.next_event() is Signal.MORE:
        sent += b"".join(engine.data_to_send())
    assert engine.next_event() is Signal.CLOSE
    assert sent.endswith(b"\r\n.\r\n-ERR [SYS/TEMP] The server is stopping\r\n")


@pytest.mark.parametrize("piece", [1, 1000, 100_000])
@pytest.mark.parametrize(
    ("size", "is_closed"), [(inbox.MAX_DISCARD - 2, False), (inbox.MAX_DISCARD - 1, True), (99_000, True)]
)
def test_a_line_is_given_up_at_the_same_octet_however_it_comes(size: int, is_closed: bool, piece: int) -> None:
    """A peer that sends one line for ever is told so once, and the connection closes; gigabytes are not read."""
    engine = opened()
    octets = b"a" * size + b"\r\n"
    for start in range(0, len(octets), piece):
        engine.receive_data(octets[start : start + piece])
        if isinstance(event := engine.next_event(), ev.CommandError):
            engine.err(event.text)
    assert engine.next_event() is (Signal.CLOSE if is_closed else Signal.NEED_DATA)
    assert b"".join(engine.data_to_send()).count(b"-ERR") == 1


def test_a_response_without_end_closes_too() -> None:
    engine = opened()
    engine.receive_data(b"AUTH PLAIN\r\n")
    engine.next_event()
    engine.challenge(b"")
    engine.receive_data(b"A" * 70_000)
    event = engine.next_event()
    assert isinstance(event, ev.CommandError)
    engine.err(event.text)
    assert engine.next_event() is Signal.CLOSE


def test_tls_does_not_start_after_utf8() -> None:
    """RFC 6856 §2.1: clients must not, and we take care."""
    engine = opened(offers_tls=True)
    engine.receive_data(b"UTF8\r\nSTLS\r\n")
    assert isinstance(engine.next_event(), ev.Utf8)
    engine.ok()
    assert engine.is_utf8
    assert isinstance(engine.next_event(), ev.CommandError)


def test_strangers_have_ten_minutes_too() -> None:
    """RFC 1939 §3: the timer is the session's, which begins with the greeting."""
    assert opened().wait_limit() == table.COMMAND_WAIT


@given(st.binary(max_size=300))
def test_no_octets_break_the_engine(octets: bytes) -> None:
    """Whatever comes, in pieces or whole: events or errors, never an exception, and the same ones."""
    results = []
    for size in (1, 7, 300):
        engine = opened()
        found = []
        for start in range(0, len(octets), size):
            engine.receive_data(octets[start : start + size])
            while not isinstance(event := engine.next_event(), Signal):
                found.append(event)
                engine.err("no")
        results.append(found)
    assert results[0] == results[1] == results[2]
