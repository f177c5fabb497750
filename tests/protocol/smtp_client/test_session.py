# SPDX-License-Identifier: Apache-2.0
"""From the greeting to a session that takes letters, and every way in which there is none."""

from __future__ import annotations

import base64

import pytest
from scramp import ScramMechanism

from posthouse.outcome import RemoteReply, Status
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_events import Phase, SessionReady, TlsUse
from tests.protocol.smtp_client.script import TLS, Script, begin, client, failure, offer_lines, outcomes, ready


@pytest.mark.parametrize("at_once", [0, 1])
def test_greeting_and_ehlo_make_a_session(at_once: int) -> None:
    script = Script(client(), at_once=at_once)
    events = script.play(f"S: 220-mx.bob.test ESMTP\nS: 220 hello\nC: EHLO mail.alice.test\n{offer_lines()}")
    assert [type(event) for event in events] == [SessionReady]
    offer = script.engine.offer
    assert "PIPELINING" in offer
    assert offer.max_size == 1_000_000
    assert offer.extensions["HELP"] == ""
    assert script.engine.is_usable


def test_lmtp_says_lhlo() -> None:
    script = Script(client(is_lmtp=True))
    script.play(f"S: 220 mx\nC: LHLO mail.alice.test\n{offer_lines()}")
    assert script.engine.is_usable


@pytest.mark.parametrize("code", [500, 501, 502, 504, 550])
def test_a_server_that_does_not_know_ehlo_hears_helo(code: int) -> None:
    """RFC 5321 §3.2"""
    script = Script(client())
    script.play(f"S: 220 mx\nC: EHLO mail.alice.test\nS: {code} what?\nC: HELO mail.alice.test\nS: 250 mx hello")
    assert script.engine.is_usable
    assert not script.engine.offer.extensions


def test_lmtp_has_no_older_greeting() -> None:
    script = Script(client(is_lmtp=True))
    events = script.play("S: 220 mx\nC: LHLO mail.alice.test\nS: 500 what?")
    assert failure(events).outcome.status == Status(5, 5, 2)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("554 no service for you", (5, 0, 0)),
        ("554 5.7.1 blocked", (5, 7, 1)),
        ("421 4.3.2 busy", (4, 3, 2)),
        ("421 busy", (4, 3, 2)),
        ("450 later", (4, 0, 0)),
        ("521 no mail here", (5, 0, 0)),
        ("354 go ahead", (4, 5, 0)),
        ("250 who starts with this?", (4, 5, 0)),
    ],
)
def test_a_refused_greeting_keeps_the_servers_words(reply: str, status: tuple[int, int, int]) -> None:
    events = Script(client()).play(f"S: {reply}")
    outcome = failure(events).outcome
    assert outcome.status == Status(*status)
    assert outcome.host == "mx.bob.test"
    assert outcome.address == "192.0.2.25"
    assert outcome.reply is not None
    assert outcome.diagnostic == f"{reply} (in reply to the greeting)"


@pytest.mark.parametrize("reply", ["451 4.7.1 greylisted", "554 5.7.1 bad name", "221 bye"])
def test_a_refused_helo_ends_the_session(reply: str) -> None:
    script = Script(client())
    events = script.play(f"S: 220 mx\nC: EHLO mail.alice.test\nS: {reply}")
    assert failure(events).outcome.reply is not None


@pytest.mark.parametrize("octets", [b"SSH-2.0-OpenSSH\r\n", b"220 bare\n", b"x" * 5000])
def test_what_is_no_smtp_is_a_transient_fault(octets: bytes) -> None:
    events = Script(client()).answer(octets)
    assert failure(events).outcome.status == Status(4, 5, 0)


def test_silence_and_loss_before_the_session_are_transient() -> None:
    lost = Script(client())
    outcome = failure(lost.answer(b"220-half a gree") + _end(lost)).outcome
    assert outcome.status == Status(4, 4, 2)
    assert outcome.diagnostic == "the host closed the connection (at the greeting)"
    late = Script(client())
    assert late.engine.wait_limit() == 300.0
    late.engine.timed_out()
    assert failure(late.pull()).outcome.diagnostic == "no answer to the greeting in time (at the greeting)"


def _end(script: Script) -> list[object]:  # type: ignore[misc]
    script.engine.receive_data(b"")
    return script.pull()  # type: ignore[return-value]


# --- TLS ------------------------------------------------------------------------------------------

BEFORE_TLS = "S: 220 mx\nC: EHLO mail.alice.test\nS: 250-mx\nS: 250-STARTTLS\nS: 250 SIZE 10\nC: STARTTLS\n"


def test_tls_is_used_where_it_is_offered_and_ehlo_said_again() -> None:
    """RFC 3207 §4.2"""
    script = Script(client())
    assert script.play(BEFORE_TLS + "S: 220 2.0.0 go") == [Signal.START_TLS]
    assert script.pull() == []
    assert script.engine.wait_limit() is None
    script.engine.tls_started(TLS)
    assert script.engine.offer.max_size is None
    events = script.play("C: EHLO mail.alice.test\nS: 250-mx\nS: 250 SIZE 20")
    assert [type(event) for event in events] == [SessionReady]
    assert script.engine.offer.max_size == 20
    assert script.engine.tls == TLS


@pytest.mark.parametrize("at_once", [0, 1])
def test_octets_injected_before_the_handshake_are_forgotten(at_once: int) -> None:
    """CVE-2011-0411, the client's side: a forged EHLO reply in clear must not be taken for the real one."""
    script = Script(client(), at_once=at_once)
    events = script.play(BEFORE_TLS + "S: 220 go\nS: 250-evil\nS: 250 AUTH PLAIN\nS: 250 more")
    assert events == [Signal.START_TLS]
    script.engine.tls_started(TLS)
    assert script.hear() == b"EHLO mail.alice.test\r\n"
    assert script.pull() == []
    [event] = script.answer(b"250 mx\r\n")
    assert isinstance(event, SessionReady)
    assert not event.offer.extensions


@pytest.mark.parametrize("reply", ["454 4.7.0 not now", "500 what", "501 no"])
def test_opportunistic_tls_goes_on_without_when_it_is_refused(reply: str) -> None:
    script = Script(client())
    events = script.play(BEFORE_TLS + f"S: {reply}")
    assert [type(event) for event in events] == [SessionReady]
    assert script.engine.tls is None


@pytest.mark.parametrize(
    "rest",
    [BEFORE_TLS + "S: 454 4.7.0 not now", "S: 220 mx\nC: EHLO mail.alice.test\nS: 250 mx", BEFORE_TLS + "S: 500 no"],
)
def test_required_tls_that_cannot_be_had_is_transient_and_nothing_is_sent(rest: str) -> None:
    script = Script(client(tls=TlsUse.REQUIRED))
    assert failure(script.play(rest)).outcome.status == Status(4, 7, 4)


def test_a_server_known_by_helo_alone_cannot_do_required_tls() -> None:
    script = Script(client(tls=TlsUse.REQUIRED))
    events = script.play("S: 220 mx\nC: EHLO mail.alice.test\nS: 500 no\nC: HELO mail.alice.test\nS: 250 mx")
    assert failure(events).outcome.status == Status(4, 7, 4)


def test_tls_is_not_asked_for_when_it_is_not_wanted() -> None:
    script = Script(client(tls=TlsUse.NEVER))
    events = script.play("S: 220 mx\nC: EHLO mail.alice.test\nS: 250-mx\nS: 250 STARTTLS")
    assert [type(event) for event in events] == [SessionReady]


def test_loss_while_tls_begins_says_so() -> None:
    """So that the transport may try once more without TLS."""
    for before in (BEFORE_TLS, BEFORE_TLS + "S: 220 go"):
        script = Script(client())
        script.play(before)
        script.hear()
        script.engine.lost("handshake failure")
        assert failure(script.pull()).is_tls_suspect
    script = Script(client())
    script.play(BEFORE_TLS + "S: 220 go")
    script.engine.tls_started(TLS)
    script.engine.receive_data(b"")
    found = failure(script.pull())
    assert found.is_tls_suspect
    assert found.outcome.tls == "TLSv1.3"


def test_tls_before_the_greeting() -> None:
    script = Script(client(tls=TlsUse.NEVER))
    script.engine.tls_started(TLS)
    script.play("S: 220 mx\nC: EHLO mail.alice.test\nS: 250-mx\nS: 250 STARTTLS")
    assert script.engine.is_usable
    with pytest.raises(LocalProtocolError):
        script.engine.tls_started(TLS)


# --- AUTH -----------------------------------------------------------------------------------------

ALICE = Credentials("alice", "secret")
NONCE = "rOprNGfwEbeRWgbNEkqO"


def login(offered: str, *, is_protected: bool = True) -> Script:
    script = Script(client(credentials=ALICE, nonce=NONCE, tls=TlsUse.NEVER))
    if is_protected:
        script.engine.tls_started(TLS)
    script.answer(b"220 mx\r\n")
    assert script.hear() == b"EHLO mail.alice.test\r\n"
    script.engine.receive_data(f"250-mx\r\n250 {offered}\r\n".encode())
    return script


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_plain_sends_the_initial_response() -> None:
    script = login("AUTH PLAIN LOGIN")
    events = script.play(f"C: AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 'secret')}\nS: 235 2.7.0 welcome")
    assert [type(event) for event in events] == [SessionReady]


def test_login_answers_two_prompts_whatever_they_say() -> None:
    for one, two in ((b64("Username:"), b64("Password:")), ("Name", "not base64!")):
        script = login("AUTH=LOGIN")
        script.play(f"C: AUTH LOGIN\nS: 334 {one}\nC: {b64('alice')}\nS: 334 {two}\nC: {b64('secret')}\nS: 235 ok")
        assert script.engine.is_usable


def test_a_long_password_waits_for_the_challenge() -> None:
    """RFC 4954 §4: the command line has a limit of 512 octets, a response has not."""
    script = Script(client(credentials=Credentials("alice", "p" * 400), tls=TlsUse.NEVER, may_show_password=True))
    response = b64("\0alice\0" + "p" * 400)
    script.play(
        "S: 220 mx\nC: EHLO mail.alice.test\nS: 250-mx\nS: 250 AUTH PLAIN\n"
        f"C: AUTH PLAIN\nS: 334 \nC: {response}\nS: 235 ok"
    )
    assert script.engine.is_usable


class ScramServer:
    def __init__(self, password: str = "secret", rounds: int = 4096) -> None:
        salt, stored, server, count = ScramMechanism("SCRAM-SHA-256").make_auth_info(password, iteration_count=rounds)
        self.server = ScramMechanism("SCRAM-SHA-256").make_server(lambda _: (salt, stored, server, count))


def unwrap(line: bytes) -> str:
    return base64.b64decode(line.split()[-1]).decode()


def scram(script: Script, server: ScramServer) -> list[object]:
    script.pull()
    line = script.hear()
    assert line.startswith(b"AUTH SCRAM-SHA-256 ")
    server.server.set_client_first(unwrap(line))
    script.answer(f"334 {b64(server.server.get_server_first())}\r\n".encode())
    server.server.set_client_final(unwrap(script.hear()))
    script.answer(f"334 {b64(server.server.get_server_final())}\r\n".encode())
    assert script.hear() == b"\r\n"
    return list(script.answer(b"235 2.7.0 ok\r\n"))


def test_scram_is_preferred_and_the_server_must_prove_itself() -> None:
    script = login("AUTH PLAIN SCRAM-SHA-256", is_protected=False)
    [event] = scram(script, ScramServer())
    assert isinstance(event, SessionReady)


def test_scram_success_without_the_servers_proof_is_not_believed() -> None:
    """RFC 5802 §5: who cannot show the ServerSignature does not know the password."""
    script = login("AUTH SCRAM-SHA-256")
    script.pull()
    server = ScramServer()
    server.server.set_client_first(unwrap(script.hear()))
    script.answer(f"334 {b64(server.server.get_server_first())}\r\n".encode())
    script.hear()
    assert failure(script.answer(b"235 ok\r\n")).outcome.status == Status(4, 5, 0)


@pytest.mark.parametrize(
    "challenge",
    [
        "!!!",
        b64("nonsense"),
        b64("r=other,s=QSXCR+Q6sek8bf92,i=4096"),
        b64(f"r={NONCE}x,s=QSXCR+Q6sek8bf92,i=10000000"),
        b64(f"r={NONCE}x,s=QSXCR+Q6sek8bf92"),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
)
def test_bad_scram_challenges_end_the_session(challenge: str) -> None:
    """Also one that asks for ten million rounds, which would stop the whole server for seconds."""
    script = login("AUTH SCRAM-SHA-256")
    script.pull()
    script.hear()
    assert failure(script.answer(f"334 {challenge}\r\n".encode())).outcome.status == Status(4, 5, 0)


def test_scram_refused_falls_back_to_plain_where_it_is_protected() -> None:
    """Servers that keep an imported hash offer SCRAM to all and can do it for some."""
    script = login("AUTH SCRAM-SHA-256 PLAIN")
    script.pull()
    script.hear()
    script.answer(b"535 5.7.8 no\r\n")
    script.play(f"C: AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 'secret')}\nS: 235 ok")
    assert script.engine.is_usable


def test_no_password_crosses_an_unprotected_connection() -> None:
    """Neither at once nor as the second choice after SCRAM."""
    events = login("AUTH PLAIN LOGIN", is_protected=False).pull()
    assert failure(events).outcome.diagnostic == "the host offers no way to log in that hides the password"
    script = login("AUTH SCRAM-SHA-256 PLAIN", is_protected=False)
    script.pull()
    script.hear()
    found = failure(script.answer(b"535 5.7.8 no\r\n"))
    assert found.outcome.status == Status(4, 7, 8)
    assert found.outcome.reply == RemoteReply(535, Status(5, 7, 8), "no")
    assert script.hear() == b""


def test_a_wrong_password_is_transient_and_not_tried_twice() -> None:
    """It is mended by the operator of the smart host; the senders' letters wait meanwhile."""
    script = login("AUTH PLAIN LOGIN")
    script.pull()
    script.hear()
    assert failure(script.answer(b"535 5.7.8 wrong\r\n")).outcome.status == Status(4, 7, 8)


def test_a_mechanism_that_is_not_known_after_all_gives_way_to_the_next() -> None:
    script = login("AUTH PLAIN LOGIN")
    script.pull()
    script.hear()
    script.play(
        "S: 504 5.5.4 no PLAIN\nC: AUTH LOGIN\nS: 334 VXNlcg==\n"
        f"C: {b64('alice')}\nS: 334 x\nC: {b64('secret')}\nS: 235 ok"
    )
    assert script.engine.is_usable


@pytest.mark.parametrize("reply", ["250 ok", "354 go", "334 eA==", "454 4.7.0 later", "421 bye"])
def test_odd_answers_to_auth_end_the_session(reply: str) -> None:
    script = login("AUTH PLAIN")
    script.pull()
    script.hear()
    assert failure(script.answer(f"{reply}\r\n".encode())).outcome.is_deferred


def test_nothing_to_log_in_with_is_a_failure() -> None:
    assert failure(login("SIZE").pull()).outcome.status == Status(4, 7, 8)


def test_passwords_do_not_show_in_a_traceback() -> None:
    assert "secret" not in repr(client(credentials=ALICE)._settings)


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["221 2.0.0 bye", "250 eh", "garbage"])
def test_quit_ends_in_close_whatever_is_answered(reply: str) -> None:
    script = ready()
    script.engine.quit()
    assert script.engine.wait_limit() == 5.0
    assert script.play(f"C: QUIT\nS: {reply}") == [Signal.CLOSE]
    assert script.pull() == [Signal.CLOSE]


def test_quit_without_an_answer_ends_too() -> None:
    for end in (lambda script: script.engine.timed_out(), lambda script: script.engine.receive_data(b"")):
        script = ready()
        script.engine.quit()
        script.hear()
        end(script)
        assert script.pull() == [Signal.CLOSE]


def test_shut_down_says_quit_only_between_letters() -> None:
    script = ready()
    script.engine.shut_down()
    assert script.hear() == b"QUIT\r\n"
    busy = begin(ready())
    busy.engine.shut_down()
    assert busy.hear().startswith(b"MAIL")


def test_an_idle_session_that_died_is_not_usable_and_says_why() -> None:
    script = ready()
    script.engine.receive_data(b"421 4.4.2 idle too long\r\n")
    script.engine.receive_data(b"")
    assert not script.engine.is_usable
    begin(script)
    [outcome] = outcomes(script.pull())
    assert outcome.status == Status(4, 4, 2)
    assert outcome.reply is not None
    assert outcome.reply.text == "idle too long"
    assert script.hear() == b""


@pytest.mark.parametrize("octets", [b"550 5.1.1 what?\r\n", b"250 ok\r\n", b"25", b"nonsense\r\n"])
def test_a_host_that_speaks_out_of_turn_gets_no_letter(octets: bytes) -> None:
    """Otherwise every later reply would answer the command after its own."""
    script = ready()
    script.engine.receive_data(octets)
    begin(script)
    [outcome] = outcomes(script.pull())
    assert outcome.is_deferred
    assert script.engine.phase is Phase.CLOSED


def test_no_two_letters_at_once_and_none_before_the_session() -> None:
    script = begin(ready())
    with pytest.raises(LocalProtocolError):
        begin(script)
    with pytest.raises(LocalProtocolError):
        begin(Script(client()))


def test_a_password_that_scram_cannot_carry_goes_another_way() -> None:
    """SASLprep forbids control characters (RFC 4013 §2.3); PLAIN does not mind."""
    script = Script(client(credentials=Credentials("alice", "\a"), nonce=NONCE, tls=TlsUse.NEVER))
    script.engine.tls_started(TLS)
    script.play(
        "S: 220 mx\nC: EHLO mail.alice.test\nS: 250-mx\nS: 250 AUTH SCRAM-SHA-256 PLAIN\n"
        f"C: AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + chr(7))}\nS: 235 ok"
    )
    assert script.engine.is_usable


def test_too_many_challenges_end_the_session() -> None:
    script = login("AUTH LOGIN")
    script.pull()
    for _ in range(2):
        script.hear()
        script.answer(b"334 VXNlcg==\r\n")
    script.hear()
    assert failure(script.answer(b"334 VXNlcg==\r\n")).outcome.status == Status(4, 5, 0)
