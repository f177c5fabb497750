# SPDX-License-Identifier: Apache-2.0
"""The engine's contract with its session and its driver. Dialogues as such are in tests/transcripts/smtp."""

from __future__ import annotations

import pytest

from posthouse.mail.address import AddressError
from posthouse.ports import TlsInfo
from posthouse.protocol.engine import Engine, LocalProtocolError, Signal
from posthouse.protocol.smtp import data, faults, table
from posthouse.protocol.smtp import events as ev
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.server import SmtpServer
from posthouse.protocol.smtp.table import State

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
READY = Reply.of(220, None, "ready")
OK = Reply.of(250, (2, 0, 0), "OK")
GO = Reply.of(354, None, "go on")
NO = Reply.of(550, (5, 7, 1), "no")
BYE = Reply.of(421, (4, 7, 0), "closing")


def said(engine: SmtpServer) -> bytes:
    return b"".join(engine.data_to_send())


def identified(**settings: object) -> SmtpServer:
    """An engine after EHLO (LHLO), its output taken."""
    engine = SmtpServer(hostname="mail.example.test", **settings)  # type: ignore[arg-type]  # test shorthand
    assert engine.next_event() == ev.Opened()
    engine.send(READY)
    verb = "LHLO" if engine.mode is Mode.LMTP else "EHLO"
    engine.receive_data(f"{verb} client.example.test\r\n".encode())
    assert engine.next_event() == ev.Hello(verb, "client.example.test")
    engine.accept_hello(("PLAIN", "SCRAM-SHA-256"))
    said(engine)
    return engine


def feed(engine: SmtpServer, octets: bytes, reply: Reply = OK) -> ev.Event | Signal:
    """Feed; answer the event, if it wants an answer, and return it."""
    engine.receive_data(octets)
    event = engine.next_event()
    if not isinstance(event, Signal | ev.BodyChunk | ev.Disconnected):
        engine.send(event.reply if isinstance(event, ev.CommandError | ev.MessageBad) and reply is OK else reply)
    return event


def with_recipient(**settings: object) -> SmtpServer:
    engine = identified(**settings)
    feed(engine, b"MAIL FROM:<alice@alice.test>\r\n")
    feed(engine, b"RCPT TO:<bob@bob.test>\r\n")
    said(engine)
    return engine


def test_it_is_an_engine() -> None:
    engine: Engine[ev.Event] = SmtpServer(hostname="mail.example.test")
    assert engine.data_to_send() == []


def test_host_name_must_be_one() -> None:
    with pytest.raises(AddressError):
        SmtpServer(hostname="not a name")


def test_one_event_at_a_time() -> None:
    """Until an event is answered the engine is paused, whatever has come in."""
    engine = identified()
    engine.receive_data(b"NOOP\r\nQUIT\r\n")
    assert engine.next_event() == ev.Noop()
    assert engine.next_event() is Signal.PAUSED
    assert engine.unread_octets == 6
    engine.send(OK)
    assert engine.next_event() == ev.Quit()
    assert engine.unread_octets == 0
    engine.send(Reply.of(221, None, "bye"))
    assert engine.next_event() is Signal.CLOSE
    assert said(engine) == b"250 2.0.0 OK\r\n221 bye\r\n"


def test_answers_are_checked() -> None:
    """A reply that the table does not allow is a defect of ours and is not sent."""
    engine = identified()
    with pytest.raises(LocalProtocolError, match="no event waits"):
        engine.send(OK)
    engine.receive_data(b"MAIL FROM:<alice@alice.test>\r\n")
    engine.next_event()
    for code in (220, 221, 235, 251, 334, 354, 199, 600):
        with pytest.raises(LocalProtocolError, match="is no answer to MailFrom"):
            engine.send(Reply.of(code, None, "wrong"))
    with pytest.raises(LocalProtocolError):
        engine.accept_hello()
    with pytest.raises(LocalProtocolError):
        engine.challenge(b"")
    with pytest.raises(LocalProtocolError):
        engine.send_each([OK])
    assert said(engine) == b""
    engine.send(OK)
    assert said(engine) == b"250 2.0.0 OK\r\n"


def test_hello_is_accepted_with_its_extensions() -> None:
    engine = identified()
    engine.receive_data(b"EHLO again.example.test\r\n")
    engine.next_event()
    with pytest.raises(LocalProtocolError, match="accept_hello"):
        engine.send(OK)
    engine.send(NO)
    assert engine.state is State.IDENTIFIED


def test_bad_content_cannot_be_accepted() -> None:
    """No success for content that is not acceptable, not even by mistake."""
    engine = with_recipient()
    feed(engine, b"DATA\r\n", GO)
    engine.receive_data(b"a\nb\r\n.\r\n")
    assert engine.next_event() == ev.MessageBad(faults.BAD_LINE_ENDS)
    with pytest.raises(LocalProtocolError):
        engine.send(OK)
    engine.send(faults.BAD_LINE_ENDS)
    assert engine.state is State.IDENTIFIED


def test_content_comes_in_large_pieces() -> None:
    """One event per read, however many lines it has."""
    engine = with_recipient()
    feed(engine, b"DATA\r\n", GO)
    piece = b"0123456789 0123456789\r\n" * 2500
    assert feed(engine, piece) == ev.BodyChunk(piece[:-2])
    assert engine.next_event() is Signal.NEED_DATA
    assert feed(engine, piece + b".\r\n") == ev.BodyChunk(b"\r\n" + piece)
    assert engine.next_event() == ev.MessageEnd(2 * len(piece))


def test_refused_recipients_do_not_count() -> None:
    engine = identified()
    feed(engine, b"MAIL FROM:<alice@alice.test>\r\n")
    feed(engine, b"RCPT TO:<a@bob.test>\r\n", NO)
    assert (engine.accepted_recipients, engine.state) == (0, State.MAIL)
    feed(engine, b"RCPT TO:<b@bob.test>\r\n")
    feed(engine, b"RCPT TO:<c@bob.test>\r\n", NO)
    assert (engine.accepted_recipients, engine.state) == (1, State.RCPT)
    feed(engine, b"RSET\r\n")
    assert (engine.accepted_recipients, engine.state) == (0, State.IDENTIFIED)


@pytest.mark.parametrize("octets", [b"NOOP\r\n", b"MAIL FROM:<a@alice.test>\r\n", b"BOGUS\r\n", b"RSET\r\n"])
@pytest.mark.parametrize("code", [421, 521])
def test_farewell_replies_close(octets: bytes, code: int) -> None:
    """421 and 521 may answer anything; what was pipelined behind is not looked at."""
    engine = identified()
    engine.receive_data(octets + b"NOOP\r\n")
    engine.next_event()
    engine.send(Reply.of(code, None, "closing"))
    assert engine.next_event() is Signal.CLOSE
    assert said(engine) == b"%d closing\r\n" % code


def test_nothing_is_answered_after_the_end() -> None:
    """A session that is late with its answer does no harm, and nothing is said."""
    engine = identified()
    engine.receive_data(b"")
    assert engine.next_event() == ev.Disconnected()
    assert engine.next_event() is Signal.CLOSE
    engine.send(OK)
    engine.send_each([OK])
    engine.accept_hello()
    engine.challenge(b"x")
    engine.timed_out()
    engine.shut_down()
    engine.receive_data(b"NOOP\r\n")
    assert engine.next_event() is Signal.CLOSE
    assert said(engine) == b""


def test_commands_before_the_end_of_the_stream_are_answered() -> None:
    """A client may send all it has and close its side before it reads (half-close)."""
    engine = identified()
    engine.receive_data(b"NOOP\r\nQUI")
    engine.receive_data(b"")
    assert engine.next_event() == ev.Noop()
    engine.send(OK)
    assert engine.next_event() == ev.Disconnected()


def test_starttls_order() -> None:
    engine = identified(offers_tls=True)
    assert feed(engine, b"STARTTLS\r\nEHLO injected\r\n", READY) == ev.StartTls()
    assert said(engine) == b"220 ready\r\n"
    assert engine.next_event() is Signal.START_TLS
    assert engine.next_event() is Signal.NEED_DATA
    engine.receive_data(b"EHLO injected later\r\n")
    assert engine.next_event() is Signal.NEED_DATA
    engine.tls_started(TLS)
    assert engine.next_event() is Signal.NEED_DATA
    assert (engine.tls, engine.state, engine.unread_octets) == (TLS, State.GREETED, 0)


def test_starttls_refused_goes_on_in_the_clear() -> None:
    engine = identified(offers_tls=True)
    assert feed(engine, b"STARTTLS\r\nNOOP\r\n", Reply.of(454, (4, 7, 0), "not now")) == ev.StartTls()
    assert engine.next_event() == ev.Noop()


def test_login_before_tls_is_forgotten() -> None:
    """RFC 3207 §4.2: nothing obtained before TLS counts."""
    engine = identified(offers_tls=True, auth_needs_tls=False)
    feed(engine, b"AUTH PLAIN AA==\r\n", Reply.of(235, None, "welcome"))
    assert engine.is_authenticated
    feed(engine, b"STARTTLS\r\n", READY)
    engine.next_event()
    engine.tls_started(TLS)
    assert not engine.is_authenticated


@pytest.mark.parametrize("is_slow", [True, False])
def test_failed_handshake_says_nothing(is_slow: bool) -> None:
    engine = identified(offers_tls=True)
    feed(engine, b"STARTTLS\r\n", READY)
    said(engine)
    assert engine.next_event() is Signal.START_TLS
    if is_slow:
        engine.timed_out()
    else:
        engine.receive_data(b"")
        assert engine.next_event() == ev.Disconnected()
    assert engine.next_event() is Signal.CLOSE
    assert said(engine) == b""


def test_implicit_tls_begins_before_the_greeting() -> None:
    engine = SmtpServer(hostname="mail.example.test", offers_tls=True)
    engine.tls_started(TLS)
    assert engine.next_event() == ev.Opened()
    assert engine.tls is TLS
    with pytest.raises(LocalProtocolError):
        identified().tls_started(TLS)


def test_auth_exchange() -> None:
    engine = identified(auth_needs_tls=False)
    engine.receive_data(b"AUTH SCRAM-SHA-256 biwsbj11c2Vy\r\n")
    assert engine.next_event() == ev.AuthStart("SCRAM-SHA-256", b"n,,n=user")
    engine.challenge(b"r=1")
    assert said(engine) == b"334 cj0x\r\n"
    engine.receive_data(b"Yz1iaXdz\r\n")
    assert engine.next_event() == ev.AuthResponse(b"c=biws")
    engine.challenge(b"v=2")
    engine.receive_data(b"\r\n")
    assert engine.next_event() == ev.AuthResponse(b"")
    engine.send(Reply.of(235, (2, 7, 0), "welcome"))
    assert engine.is_authenticated
    assert engine.state is State.IDENTIFIED


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"*\r\n", faults.AUTH_CANCELLED),
        (b"????\r\n", faults.AUTH_NOT_BASE64),
        (b"A" * 20000 + b"\r\n", faults.AUTH_LINE_TOO_LONG),
    ],
)
def test_auth_exchange_ends_with_a_bad_line(octets: bytes, reply: Reply) -> None:
    engine = identified(auth_needs_tls=False)
    engine.receive_data(b"AUTH PLAIN\r\n")
    assert engine.next_event() == ev.AuthStart("PLAIN", None)
    engine.challenge(b"")
    assert engine.state is State.AUTHENTICATING
    assert feed(engine, octets, reply) == ev.CommandError(reply)
    assert feed(engine, b"NOOP\r\n") == ev.Noop()
    assert not engine.is_authenticated


def test_long_auth_lines_are_taken() -> None:
    """RFC 4954 §4: 12288 octets, also for the initial response; only there."""
    engine = identified(auth_needs_tls=False)
    line = b"AUTH PLAIN " + b"A" * 12272
    assert len(line + b"\r\n") == 12285
    assert feed(engine, line + b"\r\n", NO) == ev.AuthStart("PLAIN", b"\0" * 9204)
    assert feed(engine, line + b"AAAA\r\n") == ev.CommandError(faults.LINE_TOO_LONG)


def test_envelope_lines_have_room_for_parameters() -> None:
    engine = identified()
    envelope_id = "x" * 100
    line = f"MAIL FROM:<{'a' * 64}@alice.test> ENVID={envelope_id} AUTH={'b' * 64}@alice.test".encode()
    padded = line.replace(b"> ", b"> " + b" " * (2046 - len(line)))
    assert isinstance(feed(engine, padded + b"\r\n"), ev.MailFrom)
    feed(engine, b"RSET\r\n")
    assert feed(engine, padded.replace(b"> ", b">  ") + b"\r\n") == ev.CommandError(faults.LINE_TOO_LONG)


def test_lmtp_replies_for_each_recipient() -> None:
    engine = with_recipient(mode=Mode.LMTP)
    feed(engine, b"RCPT TO:<carol@bob.test>\r\n")
    feed(engine, b"DATA\r\n", GO)
    said(engine)
    engine.receive_data(b".\r\n")
    assert engine.next_event() == ev.MessageEnd(0)
    with pytest.raises(LocalProtocolError, match="2 replies are due"):
        engine.send_each([OK])
    with pytest.raises(LocalProtocolError):
        engine.send_each([OK, GO])
    assert said(engine) == b""
    engine.send_each([NO, OK])
    assert said(engine) == b"550 5.7.1 no\r\n250 2.0.0 OK\r\n"
    assert engine.state is State.IDENTIFIED


def test_lmtp_one_reply_stands_for_all() -> None:
    engine = with_recipient(mode=Mode.LMTP)
    feed(engine, b"RCPT TO:<carol@bob.test>\r\n")
    feed(engine, b"DATA\r\n", GO)
    said(engine)
    feed(engine, b".\r\n", NO)
    assert said(engine) == b"550 5.7.1 no\r\n" * 2


def test_lmtp_farewell_is_said_once() -> None:
    engine = with_recipient(mode=Mode.LMTP)
    feed(engine, b"RCPT TO:<carol@bob.test>\r\n")
    feed(engine, b"DATA\r\n", GO)
    said(engine)
    feed(engine, b".\r\n", BYE)
    assert said(engine) == b"421 4.7.0 closing\r\n"


def test_refused_chunk_end_spoils_the_transaction() -> None:
    """The session may refuse a chunk (disk full): nothing but RSET or a hello helps then (RFC 3030 §2)."""
    engine = with_recipient()
    feed(engine, b"BDAT 3\r\na\r\n")
    assert engine.next_event() == ev.ChunkEnd(3)
    engine.send(Reply.of(452, (4, 3, 1), "full"))
    assert engine.state is State.FAILED_CHUNKS
    assert isinstance(feed(engine, b"BDAT 3 LAST\r\na\r\n", NO), ev.CommandError)
    assert feed(engine, b"RSET\r\n") == ev.Reset()
    assert feed(engine, b"MAIL FROM:<alice@alice.test>\r\n").__class__ is ev.MailFrom


def test_hopelessly_big_content_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_DISCARD", 1000)
    engine = with_recipient(max_message_size=10)
    feed(engine, b"DATA\r\n", GO)
    assert feed(engine, b"x" * 1000) is Signal.NEED_DATA
    assert feed(engine, b"x" * 100 + b"\r\nNOOP\r\n", faults.TOO_BIG) == ev.MessageBad(faults.TOO_BIG)
    assert engine.next_event() is Signal.CLOSE


def test_time_out_says_goodbye() -> None:
    engine = identified()
    engine.timed_out()
    assert engine.next_event() is Signal.CLOSE
    assert said(engine) == b"421 4.4.2 mail.example.test Timeout, closing connection\r\n"


def test_wait_limits_follow_the_state() -> None:
    engine = with_recipient()
    assert engine.wait_limit() == 300
    feed(engine, b"BDAT 10\r\n")
    assert engine.wait_limit() == 180
    feed(engine, b"0123456789")
    assert engine.wait_limit() == 180  # still: the event ChunkEnd is to come
    assert all(table.WAIT_LIMITS[state] >= 300 for state in (State.GREETED, State.IDENTIFIED, State.MAIL))
    engine = identified()
    assert feed(engine, b"BDAT 10\r\n") is Signal.NEED_DATA  # refused, but it must be thrown away first
    assert engine.wait_limit() == 180


def test_shut_down_when_idle_is_at_once() -> None:
    engine = identified()
    engine.shut_down()
    assert said(engine).startswith(b"421 4.3.2 ")
    assert engine.next_event() is Signal.CLOSE


def test_shut_down_lets_a_transaction_end() -> None:
    engine = with_recipient()
    engine.shut_down()
    assert said(engine) == b""
    assert engine.wait_limit() == table.DRAIN_WAIT
    feed(engine, b"DATA\r\n", GO)
    assert feed(engine, b"a\r\n.\r\nMAIL FROM:<alice@alice.test>\r\n") == ev.BodyChunk(b"a\r\n")
    assert engine.next_event() == ev.MessageEnd(3)
    engine.send(OK)
    assert engine.next_event() is Signal.CLOSE
    assert said(engine).startswith(b"354 go on\r\n250 2.0.0 OK\r\n421 4.3.2 ")


def test_shut_down_answers_the_command_in_hand_first() -> None:
    engine = identified()
    engine.receive_data(b"NOOP\r\n")
    engine.next_event()
    engine.shut_down()
    engine.send(OK)
    assert engine.next_event() is Signal.CLOSE
    assert said(engine).startswith(b"250 2.0.0 OK\r\n421 4.3.2 ")


def test_early_talkers_are_known() -> None:
    """RFC 2920 §3.1: before the greeting, and behind EHLO or DATA, a client has to wait."""
    engine = SmtpServer(hostname="mail.example.test")
    engine.next_event()
    engine.receive_data(b"EHLO client.example.test\r\n")
    engine.send(READY)
    assert engine.talks_early
    engine = with_recipient()
    assert not engine.talks_early
    engine.receive_data(b"DATA\r\nSubject: too soon\r\n")
    engine.next_event()
    assert engine.talks_early


@pytest.mark.parametrize(
    ("mode", "prepare", "word"),
    [
        (Mode.MX, b"HELO x\r\n", "SMTP"),
        (Mode.MX, b"EHLO x\r\n", "ESMTP"),
        (Mode.MX, b"EHLO x\r\nMAIL FROM:<> SMTPUTF8\r\n", "UTF8SMTP"),
        (Mode.LMTP, b"LHLO x\r\n", "LMTP"),
    ],
)
def test_transmission_type(mode: Mode, prepare: bytes, word: str) -> None:
    engine = SmtpServer(hostname="mail.example.test", mode=mode)
    engine.next_event()
    engine.send(READY)
    engine.receive_data(prepare)
    while not isinstance(event := engine.next_event(), Signal):
        engine.accept_hello() if isinstance(event, ev.Hello) else engine.send(OK)
    assert engine.transmission_type == word


def test_transmission_type_of_a_submission() -> None:
    engine = SmtpServer(hostname="mail.example.test", mode=Mode.SUBMISSION)
    engine.tls_started(TLS)
    engine.next_event()
    engine.send(READY)
    engine.receive_data(b"EHLO x\r\n")
    engine.next_event()
    engine.accept_hello(("PLAIN",))
    feed(engine, b"AUTH PLAIN AA==\r\n", Reply.of(235, None, "welcome"))
    assert engine.transmission_type == "ESMTPSA"


def test_idle_engine_holds_no_input() -> None:
    """A thousand idle connections must not each keep the last letter's buffer."""
    engine = with_recipient()
    feed(engine, b"DATA\r\n", GO)
    feed(engine, b"x" * 60000 + b"\r\n.\r\n")
    engine.next_event()
    engine.send(OK)
    assert engine.next_event() is Signal.NEED_DATA
    inbox = engine._inbox
    assert len(inbox.octets) == 0
