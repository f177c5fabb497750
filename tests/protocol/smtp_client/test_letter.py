# SPDX-License-Identifier: Apache-2.0
"""The mail transaction: what is said, in which order, and what becomes of each recipient."""

from __future__ import annotations

import pytest

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, Envelope, ForwardPath, Notify, ReversePath
from posthouse.outcome import RemoteReply, Status
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.smtp.client_events import Phase
from tests.protocol.smtp_client.script import (
    LETTER,
    Script,
    begin,
    envelope,
    offer_lines,
    outcomes,
    ready,
    statuses,
)

THREE = envelope("bob@bob.test", "carol@bob.test", "dave@bob.test")
GROUP = """
C: MAIL FROM:<alice@alice.test>
C: RCPT TO:<bob@bob.test>
C: RCPT TO:<carol@bob.test>
C: RCPT TO:<dave@bob.test>
C: DATA
"""


@pytest.mark.parametrize("at_once", [0, 1])
def test_pipelined_letter(at_once: int) -> None:
    """RFC 2920 §3.1: MAIL, RCPT and DATA in one group; the content after 354 alone."""
    script = begin(ready("PIPELINING", at_once=at_once), THREE)
    events = script.play(GROUP + "S: 250 ok\nS: 250 2.1.5 bob\nS: 251 carol\nS: 250 dave\nS: 354 go")
    assert events == []
    assert script.hear() == LETTER + b".\r\n"
    events = script.answer(b"250 2.6.0 queued as 17\r\n")
    assert statuses(events) == ["2.6.0"] * 3
    [outcome, *_] = outcomes(events)
    assert outcome.host == "mx.bob.test"
    assert outcome.address == "192.0.2.25"
    assert outcome.tls == ""
    assert outcome.reply == RemoteReply(250, Status(2, 6, 0), "queued as 17")
    assert outcome.diagnostic == "250 2.6.0 queued as 17 (in reply to the end of the content)"
    assert script.engine.is_usable


@pytest.mark.parametrize("at_once", [0, 1])
def test_step_by_step_without_pipelining(at_once: int) -> None:
    script = begin(ready(at_once=at_once), THREE)
    script.play(
        "C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<bob@bob.test>\nS: 250 ok\n"
        "C: RCPT TO:<carol@bob.test>\nS: 550 5.1.1 who?\nC: RCPT TO:<dave@bob.test>\nS: 450 4.2.0 later\n"
        "C: DATA\nS: 354 go"
    )
    assert script.hear() == LETTER + b".\r\n"
    assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0", "5.1.1", "4.2.0"]


def test_waits_follow_rfc_5321() -> None:
    """RFC 5321 §4.5.3.2"""
    script = begin(ready())
    waits = []
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 ok\r\n"):
        script.hear()
        waits.append(script.engine.wait_limit())
        script.answer(reply)
    waits.append(script.engine.wait_limit())  # the content leaves
    script.hear()
    waits.append(script.engine.wait_limit())
    assert waits == [300.0, 300.0, 120.0, 180.0, 600.0]


# --- refusals at every step -----------------------------------------------------------------------


def test_refused_sender_is_every_recipients_outcome() -> None:
    for keywords, rest in (
        (("PIPELINING",), GROUP + "S: 550 5.7.1 not you\nS: 503 no\nS: 503 no\nS: 503 no\nS: 503 no"),
        ((), "C: MAIL FROM:<alice@alice.test>\nS: 550 5.7.1 not you"),
    ):
        script = begin(ready(*keywords), THREE)
        events = script.play(rest)
        assert statuses(events) == ["5.7.1"] * 3
        assert "MAIL FROM" in outcomes(events)[0].diagnostic
        assert script.engine.is_usable


def test_all_recipients_refused_and_data_too() -> None:
    script = begin(ready("PIPELINING"), THREE)
    events = script.play(GROUP + "S: 250 ok\nS: 550 5.1.1 a\nS: 450 b\nS: 552 5.2.2 full\nS: 554 none")
    assert statuses(events) == ["5.1.1", "4.0.0", "5.2.2"]
    # What is left of the transaction is cleared with the next one, in the same group.
    begin(script, envelope())
    script.play("C: RSET\nC: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: DATA\nS: 250 reset")


def test_all_recipients_refused_but_data_accepted_gets_a_lone_dot() -> None:
    """RFC 2920 §3.1: not one octet of the content leaves."""
    script = begin(ready("PIPELINING"), THREE)
    script.play(GROUP + "S: 250 ok\nS: 550 a\nS: 550 b\nS: 550 c\nS: 354 go on")
    assert script.hear() == b".\r\n"
    assert statuses(script.answer(b"554 5.5.1 no valid recipients\r\n")) == ["5.0.0"] * 3
    assert script.engine.is_usable
    begin(script)
    assert script.hear().startswith(b"MAIL")


def test_all_recipients_refused_without_pipelining_says_no_data() -> None:
    script = begin(ready())
    events = script.play("C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<bob@bob.test>\nS: 550 5.1.1 who?")
    assert statuses(events) == ["5.1.1"]
    assert script.hear() == b""
    begin(script)
    script.play("C: RSET\nS: 250 ok\nC: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<bob@bob.test>")


def test_a_server_that_refuses_the_sender_and_takes_the_rest_gets_no_dot() -> None:
    """A lone dot might be delivered as an empty letter."""
    script = begin(ready("PIPELINING"), THREE)
    events = script.play(GROUP + "S: 450 4.1.8 later\nS: 250 a\nS: 250 b\nS: 250 c\nS: 354 go")
    assert statuses(events) == ["4.1.8"] * 3
    assert script.hear() == b""
    assert script.engine.phase is Phase.CLOSED


def test_data_refused_concerns_the_accepted_only() -> None:
    script = begin(ready("PIPELINING"), THREE)
    events = script.play(GROUP + "S: 250 ok\nS: 250 a\nS: 550 5.1.1 b\nS: 250 c\nS: 451 4.3.0 later")
    assert statuses(events) == ["4.3.0", "5.1.1", "4.3.0"]
    assert script.engine.is_usable


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("554 5.7.1 spam", "5.7.1"),
        ("451 4.7.1 greylisted", "4.7.1"),
        ("550 no", "5.0.0"),
        ("552 too big", "5.2.2"),
        ("552 5.3.4 too big", "5.3.4"),
        ("450 2.0.0 class of the code counts", "4.0.0"),
        ("550 4.2.2 here too", "5.2.2"),
        ("521 5.7.1 bare LF", "5.7.1"),
    ],
)
def test_content_refused(reply: str, status: str) -> None:
    script = begin(ready("PIPELINING"), THREE)
    script.play(GROUP + "S: 250 ok\nS: 250 a\nS: 550 5.1.1 b\nS: 250 c\nS: 354 go")
    script.hear()
    assert statuses(script.answer(f"{reply}\r\n".encode())) == [status, "5.1.1", status]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("552 too many recipients", "4.5.3"),  # RFC 5321 §4.5.3.1.10
        ("552 5.5.3 too many", "4.5.3"),
        ("552 5.2.2 over quota", "5.2.2"),
        ("452 4.5.3 too many", "4.5.3"),
        ("452 later", "4.3.1"),
        ("551 elsewhere", "5.1.6"),
        ("553 bad name", "5.1.3"),
        ("556 null mx", "5.1.10"),
        ("530 log in", "5.7.0"),
        ("501 bad", "5.5.4"),
        ("555 what", "5.5.4"),
        ("250 4.2.0 strange", "ok"),
    ],
)
def test_replies_to_rcpt(reply: str, status: str) -> None:
    script = begin(ready())
    events = script.play(f"C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<bob@bob.test>\nS: {reply}")
    if status == "ok":
        assert script.hear() == b"DATA\r\n"
    else:
        assert statuses(events) == [status]


STEPS = [
    GROUP,
    GROUP + "S: 250 ok\n",
    GROUP + "S: 250 ok\nS: 250 a\n",
    GROUP + "S: 250 ok\nS: 250 a\nS: 550 5.1.1 b\nS: 250 c\n",
    GROUP + "S: 250 ok\nS: 250 a\nS: 550 5.1.1 b\nS: 250 c\nS: 354 go\n",
]


@pytest.mark.parametrize("before", STEPS)
def test_421_at_any_step_defers_whoever_has_no_answer(before: str) -> None:
    """RFC 5321 §3.8"""
    script = begin(ready("PIPELINING"), THREE)
    script.play(before)
    if "354" in before:
        script.hear()
    events = script.answer(b"421 4.3.2 going down\r\n")
    refused = "5.1.1" if "5.1.1" in before else "4.3.2"
    assert statuses(events) == ["4.3.2", refused, "4.3.2"]
    assert events[-1] is Signal.CLOSE
    assert not script.engine.is_usable


@pytest.mark.parametrize("how", ["lost", "late", "nonsense"])
@pytest.mark.parametrize("before", STEPS)
def test_loss_at_any_step_defers_whoever_has_no_answer(before: str, how: str) -> None:
    """Never lost: only a 2xx after the whole content delivers; duplicates are possible and said."""
    script = begin(ready("PIPELINING"), THREE)
    script.play(before)
    is_sent = "354" in before and b".\r\n" in script.hear()
    match how:
        case "lost":
            script.engine.receive_data(b"")
        case "late":
            script.engine.timed_out()
        case _:
            script.engine.receive_data(b"what is this\r\n")
    events = script.pull()
    fault = "4.5.0" if how == "nonsense" else "4.4.2"
    refused = "5.1.1" if "5.1.1" in before else fault
    assert statuses(events) == [fault, refused, fault]
    assert events[-1] is Signal.CLOSE
    if is_sent:
        assert "may arrive twice" in outcomes(events)[0].diagnostic


@pytest.mark.parametrize(
    "replies", ["354 no", "250 ok\nS: 354 no", "250 ok\nS: 250 a\nS: 250 b\nS: 250 c\nS: 250 not 354"]
)
def test_replies_that_make_no_sense_defer_and_close(replies: str) -> None:
    script = begin(ready("PIPELINING"), THREE)
    events = script.play(GROUP + f"S: {replies}")
    assert statuses(events) == ["4.5.0"] * 3
    assert events[-1] is Signal.CLOSE


def test_half_a_final_reply_is_no_reply() -> None:
    """RFC 5321 §4.1.1.4: responsibility passes with the reply, and it ends with CRLF."""
    script = begin(ready("PIPELINING"))
    script.play("C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: DATA\nS: 250 a\nS: 250 b\nS: 354 c")
    script.hear()
    script.engine.receive_data(b"250 queued")
    script.engine.receive_data(b"")
    assert statuses(script.pull()) == ["4.4.2"]


def test_a_reset_that_is_refused_ends_the_connection() -> None:
    script = begin(ready())
    script.play("C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<bob@bob.test>\nS: 550 no")
    begin(script)
    events = script.play("C: RSET\nS: 500 what")
    assert statuses(events) == ["4.5.0"]
    assert events[-1] is Signal.CLOSE


def test_refusal_in_the_middle_of_the_content_stops_it() -> None:
    """The rest would be taken for commands, so the connection ends."""
    content = [b"Subject: big\r\n\r\n", (b"x" * 76 + b"\r\n") * 20_000]
    script = begin(ready("PIPELINING"), THREE, content)
    script.play(GROUP + "S: 250 ok\nS: 250 a\nS: 550 5.1.1 b\nS: 250 c\nS: 354 go")
    some = script.engine.data_to_send()
    assert 0 < sum(len(piece) for piece in some) < 600_000
    events = script.answer(b"552 5.3.4 too big\r\n")
    assert statuses(events) == ["5.3.4", "5.1.1", "5.3.4"]
    assert events[-1] is Signal.CLOSE
    assert script.engine.data_to_send() == []


def test_success_in_the_middle_of_the_content_is_not_believed() -> None:
    script = begin(ready("PIPELINING"), content=[(b"x" * 76 + b"\r\n") * 20_000])
    script.play("C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: DATA\nS: 250 a\nS: 250 b\nS: 354 c")
    script.engine.data_to_send()
    assert statuses(script.answer(b"250 ok\r\n")) == ["4.5.0"]


def test_content_with_a_bare_lf_is_never_finished() -> None:
    """It would be a smuggling tool (RFC 5321 §2.3.8); the letter fails, the host never sees a final dot."""
    for content in ([b"a\r\n\n.\r\nb\r\n"], [b"a\r", b"x\r\n"], [b"a\r\nb\n.\r\n"], [b"a\r"], [b"\n"]):
        script = begin(ready("PIPELINING"), content=content)
        script.play("C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: DATA\nS: 250 a\nS: 250 b\nS: 354 c")
        script.hear()
        assert statuses(script.pull()) == ["5.6.0"]
        assert script.engine.phase is Phase.CLOSED


# --- LMTP -----------------------------------------------------------------------------------------


def test_lmtp_answers_for_each_accepted_recipient() -> None:
    """RFC 2033 §4.2"""
    for at_once in (0, 1):
        script = begin(ready("PIPELINING", is_lmtp=True, at_once=at_once), THREE)
        script.play(GROUP + "S: 250 ok\nS: 250 a\nS: 550 5.1.1 b\nS: 250 c\nS: 354 go")
        assert script.hear() == LETTER + b".\r\n"
        events = script.answer(b"250 2.1.5 a\r\n452 4.2.2 c is full\r\n")
        assert statuses(events) == ["2.1.5", "5.1.1", "4.2.2"]
        assert script.engine.is_usable


def test_lmtp_keeps_the_replies_that_came_before_the_loss() -> None:
    """RFC 2033 §5"""
    script = begin(ready("PIPELINING", is_lmtp=True), THREE)
    script.play(GROUP + "S: 250 ok\nS: 250 a\nS: 250 b\nS: 250 c\nS: 354 go")
    script.hear()
    script.engine.receive_data(b"250 2.1.5 a\r\n")
    script.engine.receive_data(b"")
    assert statuses(script.pull()) == ["2.1.5", "4.4.2", "4.4.2"]


def test_lmtp_that_wants_content_for_nobody_is_left() -> None:
    script = begin(ready("PIPELINING", is_lmtp=True))
    events = script.play(
        "C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: DATA\nS: 250 a\nS: 550 b\nS: 354 c"
    )
    assert statuses(events) == ["5.0.0"]
    assert script.engine.phase is Phase.CLOSED


# --- parameters -----------------------------------------------------------------------------------


def test_parameters_are_said_where_they_are_offered() -> None:
    letter = Envelope(
        ReversePath(
            parse_address("alice@alice.test"),
            body=BodyType.EIGHT_BIT,
            dsn_return=DsnReturn.HEADERS,
            envelope_id="QQ+=31 4",
        ),
        (
            ForwardPath(parse_address("bob@bob.test"), Notify.SUCCESS | Notify.DELAY, "rfc822;Bob+x@bob.test"),
            ForwardPath(parse_address('"odd \\" one"@bob.test'), Notify.NEVER, "utf-8;bøb@bob.test"),
            ForwardPath(parse_address("carol@bob.test"), Notify(0), "no address type"),
        ),
    )
    content = [b"Subject: x\r\n\r\n", "ø\r\n".encode()]
    script = begin(ready("PIPELINING", "SIZE 1000", "8BITMIME", "DSN"), letter, content)
    script.play(
        "C: MAIL FROM:<alice@alice.test> SIZE=18 BODY=8BITMIME RET=HDRS ENVID=QQ+2B+3D31+204\n"
        "C: RCPT TO:<bob@bob.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@bob.test\n"
        'C: RCPT TO:<"odd \\" one"@bob.test> NOTIFY=NEVER ORCPT=utf-8;b\\x{F8}b@bob.test\n'
        "C: RCPT TO:<carol@bob.test>\n"
        "C: DATA"
    )
    plain = begin(ready("PIPELINING", "8BITMIME"), letter, content)
    plain.play(
        "C: MAIL FROM:<alice@alice.test> BODY=8BITMIME\nC: RCPT TO:<bob@bob.test>\n"
        'C: RCPT TO:<"odd \\" one"@bob.test>\nC: RCPT TO:<carol@bob.test>\nC: DATA'
    )


def test_null_reverse_path() -> None:
    script = begin(ready(), envelope(sender=""))
    assert script.hear() == b"MAIL FROM:<>\r\n"


def test_an_ascii_letter_is_not_declared_8bit() -> None:
    """What it is, not what was once declared, so that fewer hosts are shut out."""
    letter = envelope(body=BodyType.EIGHT_BIT, smtputf8=True)
    script = begin(ready("8BITMIME", "SMTPUTF8"), letter)
    assert script.hear() == b"MAIL FROM:<alice@alice.test>\r\n"
    assert begin(ready(), letter).hear() == b"MAIL FROM:<alice@alice.test>\r\n"


# --- what the host cannot take ----------------------------------------------------------------------


def hopeless(script: Script) -> list[str]:
    found = statuses(script.pull())
    assert script.hear() == b"", "nothing is said about a letter that cannot go"
    assert script.engine.is_usable
    return found


def test_a_letter_over_the_hosts_size_is_not_tried() -> None:
    """RFC 1870 §6.2"""
    assert hopeless(begin(ready("SIZE 10"), THREE)) == ["5.3.4"] * 3
    for keyword in (f"SIZE {len(LETTER)}", "SIZE 0", "SIZE", "SIZE many"):
        assert begin(ready(keyword), THREE).hear().startswith(b"MAIL")


EIGHT = [b"Subject: x\r\n\r\n\xc3\xb8\r\n"]
WIDE_HEADER = ["Subject: ø\r\n\r\nx\r\n".encode()]


def test_8bit_content_without_8bitmime_fails_honestly() -> None:
    """RFC 6152 §3; declared or not."""
    assert hopeless(begin(ready(), content=EIGHT)) == ["5.6.3"]
    assert hopeless(begin(ready("SMTPUTF8"), envelope(body=BodyType.EIGHT_BIT), EIGHT)) == ["5.6.3"]


def test_non_ascii_addresses_without_smtputf8() -> None:
    """RFC 6531 §3.4: the sender's concerns all, a recipient's that one."""
    assert hopeless(begin(ready("8BITMIME"), envelope(sender="ålice@alice.test"))) == ["5.6.7"]
    both = envelope("bøb@bob.test", "carol@bob.test")
    script = begin(ready("8BITMIME"), both)
    script.play(
        "C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<carol@bob.test>\nS: 250 ok\nC: DATA\nS: 354 go"
    )
    script.hear()
    assert statuses(script.answer(b"250 ok\r\n")) == ["5.6.7", "2.0.0"]
    assert hopeless(begin(ready("8BITMIME"), envelope("bøb@bob.test"))) == ["5.6.7"]


def test_an_international_domain_alone_needs_no_smtputf8() -> None:
    letter = envelope("bob@bücher.test", sender="alice@例子.test", smtputf8=True)
    script = begin(ready(), letter)
    script.play("C: MAIL FROM:<alice@xn--fsqu00a.test>\nS: 250 ok\nC: RCPT TO:<bob@xn--bcher-kva.test>")


def test_smtputf8_is_said_where_it_is_needed_and_offered() -> None:
    letter = envelope("bøb@bob.test", smtputf8=True)
    script = begin(ready("PIPELINING", "SMTPUTF8", "8BITMIME"), letter, WIDE_HEADER)
    script.play("C: MAIL FROM:<alice@alice.test> BODY=8BITMIME SMTPUTF8\nC: RCPT TO:<bøb@bob.test>\nC: DATA")
    letter = envelope(smtputf8=True)
    script = begin(ready("PIPELINING", "SMTPUTF8", "8BITMIME"), letter, WIDE_HEADER)
    assert script.hear().startswith(b"MAIL FROM:<alice@alice.test> BODY=8BITMIME SMTPUTF8\r\n")


def test_a_utf8_header_without_smtputf8_fails_only_if_it_was_declared() -> None:
    """An undeclared one is merely 8-bit content, as old programs send it."""
    assert hopeless(begin(ready("8BITMIME"), envelope(smtputf8=True), WIDE_HEADER)) == ["5.6.9"]
    assert begin(ready("8BITMIME"), envelope(), WIDE_HEADER).hear().endswith(b"BODY=8BITMIME\r\n")
    assert begin(ready("8BITMIME"), envelope(smtputf8=True), EIGHT).hear().endswith(b"BODY=8BITMIME\r\n")


def test_binary_content_needs_binarymime_and_chunking() -> None:
    letter = envelope(body=BodyType.BINARY)
    for keywords in ((), ("8BITMIME", "CHUNKING"), ("BINARYMIME",)):
        assert hopeless(begin(ready(*keywords), letter, [b"a\n\0b"])) == ["5.6.3"]
    script = begin(ready("PIPELINING", "BINARYMIME", "CHUNKING", "SIZE"), letter, [b"a\n", b"\0b"])
    script.play("C: MAIL FROM:<alice@alice.test> SIZE=4 BODY=BINARYMIME\nC: RCPT TO:<bob@bob.test>\nS: 250 a\nS: 250 b")
    assert script.hear() == b"BDAT 4 LAST\r\na\n\0b"
    assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0"]


# --- LIMITS ---------------------------------------------------------------------------------------


def test_recipients_beyond_the_hosts_limit_are_deferred_unasked() -> None:
    """RFC 9422 §4.2: 4.5.3 means another transaction, at once if the caller likes."""
    script = begin(ready("LIMITS RCPTMAX=2 MAILMAX=1"), THREE)
    assert script.engine.offer.limits.rcpt_max == 2
    script.play(
        "C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<bob@bob.test>\nS: 250 ok\n"
        "C: RCPT TO:<carol@bob.test>\nS: 250 ok\nC: DATA\nS: 354 go"
    )
    script.hear()
    assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0", "2.0.0", "4.5.3"]
    assert not script.engine.is_usable  # MAILMAX


def test_recipient_domains_beyond_the_hosts_limit_are_deferred_unasked() -> None:
    letter = envelope("a@one.test", "b@two.test", "c@one.test")
    script = begin(ready("LIMITS RCPTDOMAINMAX=1"), letter)
    script.play(
        "C: MAIL FROM:<alice@alice.test>\nS: 250 ok\nC: RCPT TO:<a@one.test>\nS: 250 ok\n"
        "C: RCPT TO:<c@one.test>\nS: 250 ok\nC: DATA\nS: 354 go"
    )
    script.hear()
    assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0", "4.5.3", "2.0.0"]
    assert not script.engine.is_usable


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ("RCPTMAX=10", 10),
        ("rcptmax=10 OTHER", 10),
        ("RCPTMAX=0", None),
        ("RCPTMAX=1000000", None),
        ("RCPTMAX", None),
        ("RCPTMAX=10 MAILMAX=;", None),
        ("RCPTMAX=x MAILMAX=3", None),
    ],
)
def test_limits_syntax(parameters: str, limit: int | None) -> None:
    """RFC 9422 §3.7"""
    assert ready(f"LIMITS {parameters}").engine.offer.limits.rcpt_max == limit


def test_offers_with_odd_lines() -> None:
    script = ready("AUTH PLAIN LOGIN", "AUTH=LOGIN CRAM-MD5", "auth plain", "X_Y", "", "size 5", "SIZE 7", "A=B")
    assert script.engine.offer.mechanisms == ("PLAIN", "LOGIN", "CRAM-MD5")
    assert script.engine.offer.max_size == 5
    assert "A" not in script.engine.offer


def test_many_letters_over_one_session() -> None:
    script = Script(ready("PIPELINING").engine)
    for _ in range(3):
        begin(script)
        script.play("C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: DATA\nS: 250 a\nS: 250 b\nS: 354 c")
        assert script.hear() == LETTER + b".\r\n"
        assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0"]
    assert offer_lines()


def test_nothing_in_an_envelope_can_end_a_command_line() -> None:
    """An Address cannot hold CR or LF; if a defect makes one, it must not become a command."""
    evil = Address("bob@bob.test>\r\nRCPT TO:<carol", Domain("bob.test"))
    with pytest.raises(LocalProtocolError):
        begin(ready(), Envelope(ReversePath(None), (ForwardPath(evil),)))
