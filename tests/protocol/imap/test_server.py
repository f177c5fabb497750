# SPDX-License-Identifier: Apache-2.0
"""The server engine: order, literals, states, limits. What it does must not depend on how octets were cut."""

from __future__ import annotations

import zlib

import pytest

from posthouse.mail.number_set import NumberSet
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap import limits
from posthouse.protocol.imap.admission import Terms
from posthouse.protocol.imap.server import ImapServer
from posthouse.protocol.imap.table import COMMANDS, State
from tests.protocol.imap.script import TLS, Script, log_of

ONE = NumberSet(((1, 1),))


@pytest.fixture(params=[0, 1, 2, 7], ids=lambda piece: f"pieces-{piece}")
def piece(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def opened(piece: int = 0, terms: Terms | None = None, *, offers_tls: bool = False) -> Script:
    script = Script(terms, offers_tls=offers_tls, piece=piece)
    assert script.said() == b"* OK ready\r\n"
    script.events.clear()
    return script


def test_greeting_comes_first_and_once() -> None:
    engine = ImapServer()
    assert engine.next_event() == ev.Opened()
    assert engine.next_event() is Signal.PAUSED
    with pytest.raises(LocalProtocolError):
        engine.ok("a tagged answer is none")
    engine.greet("ready", "CAPABILITY IMAP4rev2")
    assert engine.data_to_send() == [b"* OK [CAPABILITY IMAP4rev2] ready\r\n"]
    with pytest.raises(LocalProtocolError):
        engine.greet("again")
    with pytest.raises(LocalProtocolError):
        engine.ok("nobody asked")


def test_bye_as_greeting_closes() -> None:
    engine = ImapServer()
    engine.next_event()
    engine.bye("too many", "UNAVAILABLE")
    assert engine.data_to_send() == [b"* BYE [UNAVAILABLE] too many\r\n"]
    assert engine.next_event() is Signal.CLOSE


def test_commands_are_answered_one_by_one_with_their_tags(piece: int) -> None:
    script = opened(piece)
    said = script.say(b"a1 NOOP\r\nA.2] noop\r\nx capability \r\ny LOGOUT\r\nz NOOP\r\n")
    assert said == b"a1 OK done\r\nA.2] OK done\r\nx OK done\r\n* BYE Logging out\r\ny OK done\r\n"
    assert script.is_closed
    assert script.events == [ev.Noop(), ev.Noop(), ev.Capability(), ev.Logout()]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"\r\n", b"* BAD [CLIENTBUG] "),
        (b"tag\r\n", b"tag BAD [CLIENTBUG] "),
        (b"tag \r\n", b"tag BAD [CLIENTBUG] "),
        (b"+ NOOP\r\n", b"* BAD [CLIENTBUG] "),
        (b"a  NOOP\r\n", b"a BAD [CLIENTBUG] "),
        (b"a BREW coffee\r\n", b"a BAD [CLIENTBUG] "),
        (b"a UID\r\n", b"a BAD [CLIENTBUG] "),
        (b"a UID NOOP\r\n", b"a BAD [CLIENTBUG] "),
        (b"a NOOP now\r\n", b"a BAD [CLIENTBUG] "),
        (b"a N\0OP\r\n", b"a BAD [CLIENTBUG] "),
        (b"a NOOP\nb NOOP\r\n", b"a BAD [CLIENTBUG] "),
        (b"a SELECT INBOX\r\n", b"a BAD [CLIENTBUG] Log in first"),
        (b"a FETCH 1 FLAGS\r\n", b"a BAD [CLIENTBUG] Log in first"),
        (b"GET / HTTP/1.1\r\n", b"GET BAD [CLIENTBUG] "),
    ],
)
def test_what_is_no_command_is_bad_and_changes_nothing(line: bytes, answer: bytes, piece: int) -> None:
    script = opened(piece)
    assert script.say(line).startswith(answer)
    assert script.say(b"z NOOP\r\n") == b"z OK done\r\n"
    assert script.engine.state == State.NOT_AUTHENTICATED


def test_login_with_literals_of_both_kinds(piece: int) -> None:
    script = opened(piece)
    assert script.say(b"a LOGIN {5}\r\n") == b"+ Go on\r\n"
    assert script.say(b"alice {8+}\r\nse\r\ncre{\r\n") == b"a OK done\r\n"
    assert script.events == [ev.Login("alice", "se\r\ncre{")]
    assert script.engine.state == State.AUTHENTICATED
    assert script.say(b"b LOGIN a b\r\n").startswith(b"b BAD [CLIENTBUG] Not after login")


def test_an_empty_literal_is_an_empty_string(piece: int) -> None:
    script = opened(piece)
    assert script.say(b"a LOGIN {0}\r\n") == b"+ Go on\r\n"
    script.say(b" {0+}\r\n\r\n")
    assert script.events == [ev.Login("", "")]


def test_a_refused_command_does_not_ask_for_its_literal(piece: int) -> None:
    """A tagged answer in place of "+": the client does not send it (RFC 9051 §4.3)."""
    script = opened(piece)
    assert script.say(b"a BREW {5}\r\n").startswith(b"a BAD")
    assert script.say(b"b SELECT {5}\r\n").startswith(b"b BAD")
    assert script.say(b"c NOOP\r\n") == b"c OK done\r\n"


def test_a_refused_command_swallows_literals_that_do_not_wait(piece: int) -> None:
    """Their octets are never taken for commands (RFC 7888 §4)."""
    script = opened(piece)
    said = script.say(b"a BREW {9+}\r\nb LOGOUT\n {10+}\r\nc LOGOUT\r\n and more\r\nd NOOP\r\n")
    assert said.startswith(b"a BAD ")
    assert said.endswith(b"\r\nd OK done\r\n")
    assert said.count(b"\r\n") == 2


def test_a_literal_past_every_bound_closes_the_connection() -> None:
    script = opened()
    said = script.say(b"a BREW {99999999999999999999999+}\r\n")
    assert said.startswith(b"a BAD ")
    assert b"* BYE " in said
    assert script.is_closed


def test_before_login_a_command_is_small() -> None:
    script = opened()
    assert script.say(b"a LOGIN {4097}\r\n") == b"a NO [LIMIT] The command is too long\r\n"
    assert script.say(b"b LOGIN {4000+}\r\n" + b"x" * 4000 + b" {4000}\r\n") == (
        b"b NO [LIMIT] The command is too long\r\n"
    )
    assert script.say(b"c NOOP\r\n") == b"c OK done\r\n"


def test_literals_of_a_command_are_counted() -> None:
    script = opened()
    script.select()
    said = script.say(b"a SEARCH" + b" TEXT {1+}\r\nx" * (limits.MAX_LITERALS + 1) + b"\r\n")
    assert said == b"a NO [LIMIT] The command is too long\r\n"


def test_a_line_that_is_too_long_gets_its_tag_back(piece: int) -> None:
    if piece in (1, 2):
        pytest.skip("64 KiB octet by octet show no more than seven at a time")
    script = opened(piece)
    said = script.say(b"tag9 NOOP " + b"x" * limits.MAX_LINE + b"\r\nb NOOP\r\n")
    assert said == b"tag9 BAD [LIMIT] The line is too long\r\nb OK done\r\n"
    longest = b"c NOOP" + b" " * (limits.MAX_LINE - 8)
    assert script.say(longest + b"\r\n") == b"c NO [LIMIT] The command is too long\r\n"
    assert script.log_in().say(longest + b"\r\n") == b"c OK done\r\n"


def test_a_line_without_end_closes() -> None:
    script = opened()
    said = script.say(b"a " + b"x" * limits.MAX_LINE_DISCARD)
    assert said == b"a BAD [LIMIT] The line is too long\r\n* BYE Closing the connection\r\n"
    assert script.is_closed


def test_whoever_says_nonsense_only_is_sent_away() -> None:
    script = opened()
    for _ in range(limits.MAX_BAD_IN_A_ROW - 1):
        script.say(b"a b c\r\n")
    script.say(b"a NOOP\r\n")
    for _ in range(limits.MAX_BAD_IN_A_ROW):
        assert not script.is_closed
        said = script.say(b"a b c\r\n")
    assert said.endswith(b"* BYE Closing the connection\r\n")
    assert script.is_closed


# --- states -----------------------------------------------------------------------------------------


def test_select_and_what_leads_out_of_it() -> None:
    script = opened().log_in()
    engine = script.engine
    assert script.say(b"a FETCH 1 FLAGS\r\n").startswith(b"a BAD [CLIENTBUG] Select a mailbox first")
    for leave in (b"CLOSE", b"UNSELECT"):
        script.say(b"a SELECT INBOX\r\n")
        assert engine.state == State.SELECTED
        script.say(b"a " + leave + b"\r\n")
        assert engine.state == State.AUTHENTICATED
    script.say(b"a EXAMINE INBOX\r\n")
    script.say(b"a SELECT\r\n")
    assert engine.state == State.SELECTED, "SELECT that is no command has not been tried"
    script.refuses[ev.Select] = ("NO", "not here", "NONEXISTENT")
    assert script.say(b"a SELECT x\r\n") == b"a NO [NONEXISTENT] not here\r\n"
    assert engine.state == State.AUTHENTICATED


def test_a_mailbox_that_goes_by_a_clients_own_command_is_left() -> None:
    """DELETE of what is selected (RFC 9051 §6.3.5): the session goes on without."""
    script = Script().select()
    engine = script.engine
    engine.deselected()
    assert engine.state == State.AUTHENTICATED
    assert script.say(b"a FETCH 1 FLAGS\r\n").startswith(b"a BAD [CLIENTBUG]")
    engine.deselected()
    assert engine.state == State.AUTHENTICATED, "safe to say twice"


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_command_is_legal_only_where_its_row_says(verb: bytes) -> None:
    """Out of place it is BAD, whatever its arguments."""
    row = COMMANDS[verb]
    for state, script in (
        (State.NOT_AUTHENTICATED, opened()),
        (State.AUTHENTICATED, opened().log_in()),
        (State.SELECTED, opened().select()),
    ):
        script.events.clear()
        said = script.say(b"t " + verb + b"\r\n")
        is_refused = any(word in said for word in (b"Log in first", b"Not after login", b"Select a mailbox first"))
        assert is_refused == (state not in row.legal), (verb, state, said)
        if is_refused:
            assert script.engine.state == state


def test_login_fails_and_may_be_tried_again() -> None:
    script = opened()
    script.refuses[ev.Login] = ("NO", "wrong", "AUTHENTICATIONFAILED")
    assert script.say(b"a LOGIN a b\r\n") == b"a NO [AUTHENTICATIONFAILED] wrong\r\n"
    assert script.engine.state == State.NOT_AUTHENTICATED


def test_no_password_in_the_clear_where_tls_is_required() -> None:
    script = opened(0, Terms(requires_tls=True), offers_tls=True)
    assert script.say(b"a LOGIN {5}\r\n").startswith(b"a NO [PRIVACYREQUIRED] ")
    assert not script.engine.is_protected
    script.engine.tls_started(TLS)
    assert script.say(b"a LOGIN alice x\r\n") == b"a OK done\r\n"


# --- authentication -----------------------------------------------------------------------------------


def test_authenticate_with_and_without_initial_response(piece: int) -> None:
    script = opened(piece)
    assert script.say(b"a AUTHENTICATE plain\r\n") == b"+ c2F5IG9u\r\n"
    assert script.say(b"AGEAYg==\r\n") == b"a OK done\r\n"
    assert script.events == [ev.AuthStart("PLAIN", None), ev.AuthResponse(b"\0a\0b")]
    assert script.engine.state == State.AUTHENTICATED
    script = opened(piece)
    assert script.say(b"a AUTHENTICATE PLAIN AGEAYg==\r\n") == b"a OK done\r\n"
    assert script.events == [ev.AuthStart("PLAIN", b"\0a\0b")]
    script = opened(piece)
    script.say(b"a AUTHENTICATE EXTERNAL =\r\n")
    assert script.events == [ev.AuthStart("EXTERNAL", b"")]


@pytest.mark.parametrize("line", [b"*", b"!!!!", b"=AAA", b"AAA=BBB", b"A" * (limits.MAX_AUTH_LINE + 4)])
def test_an_exchange_broken_off_is_bad(line: bytes) -> None:
    """RFC 9051 §6.2.2: "*" and what is not base64."""
    script = opened()
    script.say(b"a AUTHENTICATE PLAIN\r\n")
    assert script.say(line + b"\r\n").startswith(b"a BAD ")
    assert script.engine.state == State.NOT_AUTHENTICATED
    assert script.say(b"b NOOP\r\n") == b"b OK done\r\n"


@pytest.mark.parametrize("line", [b"a AUTHENTICATE PLAIN !!", b"a AUTHENTICATE", b"a AUTHENTICATE a/b", b"a LOGIN x"])
def test_login_commands_that_are_not_well_formed(line: bytes) -> None:
    script = opened()
    assert script.say(line + b"\r\n").startswith(b"a BAD ")
    assert script.engine.state == State.NOT_AUTHENTICATED


def test_text_that_is_not_utf_8_is_bad() -> None:
    assert opened().say(b'a LOGIN "\xff" x\r\n').startswith(b"a BAD ")


# --- TLS ----------------------------------------------------------------------------------------------


def test_starttls_throws_away_what_was_injected(piece: int) -> None:
    """CVE-2011-0411: commands sent in the clear behind STARTTLS are never carried out."""
    script = opened(piece, offers_tls=True)
    assert script.say(b"a STARTTLS\r\nb LOGIN evil evil\r\nc NO").startswith(b"a OK done\r\n")
    assert script.wants_tls
    script.engine.tls_started(TLS)
    assert script.say(b"d NOOP\r\n") == b"d OK done\r\n"
    assert script.events == [ev.StartTls(), ev.Noop()]
    assert script.say(b"e STARTTLS\r\n").startswith(b"e BAD TLS is active")


def test_starttls_where_it_is_not_offered() -> None:
    assert opened().say(b"a STARTTLS\r\n").startswith(b"a BAD TLS is not available")


# --- APPEND ------------------------------------------------------------------------------------------


def test_append_passes_as_chunks(piece: int) -> None:
    script = opened(piece).log_in()
    assert script.say(b'a APPEND Sent (\\seen $X) " 1-Feb-1994 21:52:25 -0800" {11}\r\n') == b"+ Go on\r\n"
    assert script.say(b"0123\r\n{7}\r\n\r\n") == b"a OK done\r\n"
    start, chunk, end = log_of(script)
    assert isinstance(start, ev.MessageStart)
    assert (start.mailbox, start.index, start.size, start.flags) == ("Sent", 0, 11, ("\\Seen", "$X"))
    assert start.internal_date is not None
    assert start.internal_date.isoformat() == "1994-02-01T21:52:25-08:00"
    assert chunk == ev.MessageChunk(b"0123\r\n{7}\r\n")
    assert end == ev.AppendEnd("Sent", 1)


def test_append_takes_the_whole_read_as_one_chunk() -> None:
    script = opened().log_in()
    script.say(b"a APPEND x {100000}\r\n")
    script.say(b"x" * 60_000)
    script.say(b"y" * 40_000 + b"\r\n")
    chunks = [event.data for event in script.events if isinstance(event, ev.MessageChunk)]
    assert [len(chunk) for chunk in chunks] == [60_000, 40_000]


def test_append_to_a_mailbox_named_by_a_literal_and_several_messages(piece: int) -> None:
    script = opened(piece).log_in()
    assert script.say(b"a APPEND {5}\r\n") == b"+ Go on\r\n"
    said = script.say(b"inbox {3+}\r\nabc (\\Flagged) ~{2+}\r\n\0\0 UTF8 (~{4+}\r\ndefg)\r\nb NOOP\r\n")
    assert said == b"a OK done\r\nb OK done\r\n"
    assert log_of(script) == [
        ev.MessageStart("INBOX", 0, 3),
        ev.MessageChunk(b"abc"),
        ev.MessageStart("INBOX", 1, 2, ("\\Flagged",), is_binary=True),
        ev.MessageChunk(b"\0\0"),
        ev.MessageStart("INBOX", 2, 4, is_binary=True, is_utf8=True),
        ev.MessageChunk(b"defg"),
        ev.AppendEnd("INBOX", 3),
        ev.Noop(),
    ]


def test_replace(piece: int) -> None:
    script = opened(piece).select()
    script.say(b"a REPLACE 1 Drafts (\\Draft) {2+}\r\nhi\r\nb UID REPLACE 7 x {2+}\r\nho\r\n")
    seven = NumberSet(((7, 7),))
    assert log_of(script) == [
        ev.MessageStart("Drafts", 0, 2, ("\\Draft",), replaces=(ONE, False)),
        ev.MessageChunk(b"hi"),
        ev.ReplaceEnd("Drafts", ONE, by_uid=False),
        ev.MessageStart("x", 0, 2, replaces=(seven, True)),
        ev.MessageChunk(b"ho"),
        ev.ReplaceEnd("x", seven, by_uid=True),
    ]


@pytest.mark.parametrize(
    "command",
    [
        b"a APPEND x\r\n",
        b"a APPEND x (\\Seen)\r\n",
        b"a APPEND {1+}\r\nx\r\n",
        b"a APPEND x (\\Recent) {3+}\r\nabc\r\n",
        b"a APPEND x NIL {3+}\r\nabc\r\n",
        b'a APPEND x "31-Feb-2020 00:00:00 +0000" {3+}\r\nabc\r\n',
        b"a APPEND x UTF8 ({3+}\r\nabc)\r\n",
        b"a APPEND x UTF8 (~{3+}\r\nabc\r\n",
        b"a APPEND x {3+}\r\nabcd\r\n",
        b"a APPEND x {3+}\r\nabc {2+}\r\nde junk\r\n",
        b"a APPEND x {3+}\r\nabc junk {2+}\r\nde\r\n",
        b"a APPEND x {0+}\r\n\r\n",
        b"a APPEND x {3+}\r\nabc {0+}\r\n\r\n",
        b"a REPLACE 1 x {3+}\r\nabc {2+}\r\nde\r\n",
        b"a REPLACE 1:2 x {3+}\r\nabc\r\n",
        b"a REPLACE $ x {3+}\r\nabc\r\n",
    ],
)
def test_append_that_is_not_well_formed_ends_in_one_refusal(command: bytes, piece: int) -> None:
    """After CommandError nothing of the command is kept; what follows it is a command again."""
    script = opened(piece).select()
    said = script.say(command + b"z NOOP\r\n")
    refusal, answer, rest = said.split(b"\r\n")
    assert refusal.startswith((b"a BAD", b"a NO"))
    assert (answer, rest) == (b"z OK done", b"")
    assert isinstance(script.events[-2], ev.CommandError)
    assert not any(isinstance(event, ev.AppendEnd | ev.ReplaceEnd) for event in script.events)


def test_a_message_that_is_too_big_is_refused_before_it_comes(piece: int) -> None:
    script = opened(piece, Terms(max_message_size=10)).log_in()
    assert script.say(b"a APPEND x {11}\r\n") == b"a NO [TOOBIG] The message is too big\r\n"
    assert script.say(b"b APPEND x {11+}\r\n") == b""
    assert script.say(b"b LOGOUT\r\n!\r\nc NOOP\r\n") == b"b NO [TOOBIG] The message is too big\r\nc OK done\r\n"


def test_a_session_refuses_a_message(piece: int) -> None:
    """Who waits for leave sends nothing more; who does not is not heard until the command ends."""
    script = opened(piece).log_in()
    script.refuses[ev.MessageStart] = ("NO", "no such mailbox", "TRYCREATE")
    assert script.say(b"a APPEND x {3}\r\n") == b"a NO [TRYCREATE] no such mailbox\r\n"
    assert script.say(b"b APPEND x {3+}\r\n") == b""
    said = script.say(b"abc {5+}\r\n\r\nq\r\n {3+}\r\nxyz\r\nc NOOP\r\n")
    assert said == b"b NO [TRYCREATE] no such mailbox\r\nc OK done\r\n"
    assert script.say(b"d APPEND x {3+}\r\nabc {5}\r\n") == b"d NO [TRYCREATE] no such mailbox\r\n"
    assert script.say(b"e NOOP\r\n") == b"e OK done\r\n"


def test_a_refused_message_of_any_size_is_not_read_for_ever() -> None:
    script = opened().log_in()
    script.refuses[ev.MessageStart] = ("NO", "full", "OVERQUOTA")
    said = script.say(b"a APPEND x {%d+}\r\n" % (limits.MAX_SKIP + 1))
    assert said.startswith(b"a NO [OVERQUOTA] full\r\n* BYE ")
    assert script.is_closed


def test_literal_minus(piece: int) -> None:
    """RFC 7888 §5: what does not wait has at most 4096 octets."""
    script = opened(piece, Terms(literal_minus=True)).log_in()
    assert script.say(b"a APPEND x {4096+}\r\n" + b"x" * 4096 + b"\r\n") == b"a OK done\r\n"
    assert script.say(b"b APPEND x {4097}\r\n" + b"x" * 4097 + b"\r\n") == b"+ Go on\r\nb OK done\r\n"
    said = script.say(b"c APPEND x {4097+}\r\n" + b"x" * 4097 + b"\r\nd NOOP\r\n")
    assert said.startswith(b"c BAD [TOOBIG] ")
    assert said.endswith(b"\r\nd OK done\r\n")


def test_a_client_that_goes_in_the_middle_of_a_message() -> None:
    script = opened().log_in()
    script.say(b"a APPEND x {10+}\r\nabc")
    script.end()
    assert script.events[-1] == ev.Disconnected()
    assert script.is_closed
    assert script.said() == b""


# --- IDLE, long answers, expunges ----------------------------------------------------------------------


def test_idle(piece: int) -> None:
    script = opened(piece).select()
    assert script.say(b"a IDLE\r\n") == b"+ Waiting for news\r\n"
    assert script.engine.may_tell_expunge
    script.engine.tell([b"* 3 EXISTS\r\n"])
    assert script.said() == b"* 3 EXISTS\r\n"
    assert script.say(b"done\r\nb NOOP\r\n") == b"a OK done\r\nb OK done\r\n"
    assert script.events == [ev.Idle(), ev.IdleDone(), ev.Noop()]
    assert script.engine.state == State.SELECTED


def test_idle_ends_with_anything_but_done_as_bad() -> None:
    script = opened().log_in()
    script.say(b"a IDLE\r\n")
    assert script.say(b"b NOOP\r\n") == b"a BAD [CLIENTBUG] IDLE ends with DONE\r\n"
    assert script.engine.state == State.AUTHENTICATED
    assert script.say(b"c NOOP\r\n") == b"c OK done\r\n"


def test_a_long_answer_is_made_piece_by_piece() -> None:
    engine = opened().select().engine
    engine.receive_data(b"a FETCH 1:* FLAGS\r\nb NOOP\r\n")
    assert isinstance(engine.next_event(), ev.Fetch)
    for piece in (b"one", b"two"):
        engine.more([piece])
        assert engine.next_event() is Signal.MORE
        assert engine.data_to_send() == [piece]
        assert engine.next_event() == ev.More()
        assert engine.next_event() is Signal.PAUSED
    engine.ok("done")
    assert engine.data_to_send() == [b"a OK done\r\n"]
    assert engine.next_event() == ev.Noop()
    with pytest.raises(LocalProtocolError):
        engine.go_on()


@pytest.mark.parametrize(
    ("command", "may"),
    [
        (b"NOOP", True),
        (b"EXPUNGE", True),
        (b"COPY 1 x", True),
        (b"UID FETCH 1 FLAGS", True),
        (b"UID STORE 1 FLAGS ()", True),
        (b"UID SEARCH ALL", True),
        (b"UID SEARCH 1:5", False),
        (b"UID SEARCH NOT (OR ALL 1)", False),
        (b"FETCH 1 FLAGS", False),
        (b"STORE 1 FLAGS ()", False),
        (b"SEARCH ALL", False),
        (b"SORT (DATE) UTF-8 ALL", False),
        (b"THREAD REFERENCES UTF-8 ALL", False),
    ],
)
def test_where_an_expunge_may_be_told(command: bytes, may: bool) -> None:
    """RFC 9051 §7.5.1."""
    engine = opened().select().engine
    assert not engine.may_tell_expunge, "no command is under way"
    engine.receive_data(b"a " + command + b"\r\n")
    engine.next_event()
    assert engine.may_tell_expunge == may
    engine.ok("done")
    assert not engine.may_tell_expunge


# --- what ENABLE changes -------------------------------------------------------------------------------


def test_names_are_modified_utf_7_until_utf_8_is_enabled(piece: int) -> None:
    script = opened(piece).log_in()
    script.say(b'a CREATE R&-D\r\na CREATE "R\xc3\xa9"\r\na CREATE R&AOk-\r\n')
    assert script.say(b"a CREATE R&D\r\n").startswith(b"a NO [CANNOT] ")
    script.say(b"b ENABLE imap4rev2\r\n")
    script.say(b"a CREATE R&-D\r\na CREATE R&D\r\n")
    names = [event.mailbox for event in script.events if isinstance(event, ev.Create)]
    assert names == ["R&D", "R\u00e9", "R\u00e9", "R&-D", "R&D"]
    assert script.engine.is_rev2


def test_uid_only_refuses_message_numbers() -> None:
    """RFC 9586 §3."""
    script = opened().select()
    script.say(b"a ENABLE UIDONLY\r\n")
    refused = (b"FETCH 1 FLAGS", b"STORE 1 FLAGS ()", b"SEARCH ALL", b"UID SEARCH 1:5", b"COPY 1 x", b"MOVE 1 x")
    for command in (*refused, b"SORT (DATE) UTF-8 ALL", b"THREAD REFERENCES UTF-8 ALL", b"REPLACE 1 x {3}"):
        assert script.say(b"a " + command + b"\r\n").startswith(b"a BAD [UIDREQUIRED] "), command
        script.say(b"a NOOP\r\n")
    assert script.say(b"a UID FETCH 1 FLAGS\r\n") == b"a OK done\r\n"


# --- compression ---------------------------------------------------------------------------------------


def test_compress_both_ways_and_unauthenticate(piece: int) -> None:
    script = opened(piece).log_in()
    assert script.say(b"a COMPRESS DEFLATE\r\n") == b"a OK done\r\n"
    pack, unpack = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)
    said = script.say(pack.compress(b"b NOOP\r\nc SELECT INBOX\r\n") + pack.flush(zlib.Z_SYNC_FLUSH))
    assert unpack.decompress(said) == b"b OK done\r\nc OK done\r\n"
    said = script.say(pack.compress(b"d COMPRESS DEFLATE\r\n") + pack.flush(zlib.Z_SYNC_FLUSH))
    assert unpack.decompress(said).startswith(b"d BAD [COMPRESSIONACTIVE] ")
    # RFC 8437 §4.1: both layers end behind the command and its answer; more may be pipelined.
    said = script.say(pack.compress(b"e UNAUTHENTICATE\r\n") + pack.flush(zlib.Z_FINISH) + b"f LOGIN a b\r\n")
    assert unpack.decompress(said) == b"e OK done\r\n"
    assert unpack.eof
    assert unpack.unused_data == b"f OK done\r\n"
    assert not script.engine.is_compressed


def test_a_small_input_does_not_become_a_large_memory() -> None:
    script = opened().log_in()
    script.say(b"a COMPRESS DEFLATE\r\n")
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    said = script.say(pack.compress(b"x" * 50_000_000) + pack.flush(zlib.Z_SYNC_FLUSH))
    assert b"BYE" in zlib.decompressobj(-15).decompress(said)
    assert script.is_closed


def test_what_is_not_compressed_ends_the_connection() -> None:
    script = opened().log_in()
    script.say(b"a COMPRESS DEFLATE\r\n")
    script.say(b"b NOOP\r\n" * 3)
    assert script.is_closed


def test_unauthenticate_forgets_what_was_enabled() -> None:
    """RFC 8437 §4.1."""
    script = opened().select()
    script.say(b"a ENABLE IMAP4rev2 UIDONLY\r\nb UNAUTHENTICATE\r\n")
    engine = script.engine
    assert engine.state == State.NOT_AUTHENTICATED
    assert [engine.is_rev2, engine.is_utf8, engine.is_uid_only, engine.enabled] == [False, False, False, frozenset()]


# --- the end -------------------------------------------------------------------------------------------


def test_timeouts_differ_by_state_and_end_with_bye() -> None:
    script = opened()
    assert script.engine.wait_limit() == limits.LOGIN_WAIT
    script.log_in()
    assert script.engine.wait_limit() == limits.COMMAND_WAIT
    script.say(b"a APPEND x {5+}\r\n")
    assert script.engine.wait_limit() == limits.CONTENT_WAIT
    script.engine.timed_out()
    assert script.said().startswith(b"* BYE ")
    assert script.engine.next_event() is Signal.CLOSE


def test_shutting_down_waits_for_the_answer_and_for_a_message() -> None:
    engine = opened().log_in().engine
    engine.receive_data(b"a APPEND x {3+}\r\n")
    assert isinstance(engine.next_event(), ev.MessageStart)
    engine.shut_down()
    engine.go_on()
    engine.receive_data(b"abc\r\nb NOOP\r\n")
    assert isinstance(engine.next_event(), ev.MessageChunk)
    assert isinstance(engine.next_event(), ev.AppendEnd)
    assert engine.wait_limit() == limits.DRAIN_WAIT
    engine.ok("done", "APPENDUID 1 2")
    assert b"".join(engine.data_to_send()) == (
        b"a OK [APPENDUID 1 2] done\r\n* BYE [UNAVAILABLE] The server is stopping\r\n"
    )
    assert engine.next_event() is Signal.CLOSE


@pytest.mark.parametrize("is_idle", [False, True])
def test_shutting_down_at_rest_says_goodbye_at_once(is_idle: bool) -> None:
    script = opened().log_in()
    if is_idle:
        script.say(b"a IDLE\r\n")
    script.engine.shut_down()
    assert script.said() == b"* BYE [UNAVAILABLE] The server is stopping\r\n"
    assert script.engine.next_event() is Signal.CLOSE


def test_answers_out_of_turn_are_defects_of_the_caller() -> None:
    engine = opened().select().engine
    engine.receive_data(b"a SEARCH ALL\r\n")
    assert isinstance(engine.next_event(), ev.Search)
    assert engine.tag == "a"
    for answer in (engine.idle, engine.go_on, lambda: engine.challenge(b"x"), lambda: engine.greet("x")):
        with pytest.raises(LocalProtocolError):
            answer()
    engine.bad("no")
    assert engine.data_to_send() == [b"a BAD no\r\n"]
    with pytest.raises(LocalProtocolError):
        engine.more([b"x"])


def test_answers_after_the_end_are_not_said() -> None:
    """A session may come too late: the client has gone, or time was up."""
    engine = opened().select().engine
    engine.receive_data(b"a SEARCH ALL\r\n")
    engine.next_event()
    engine.timed_out()
    engine.data_to_send()
    engine.more([b"x"])
    engine.tell([b"x"])
    engine.ok("done")
    assert engine.data_to_send() == []
    assert engine.next_event() is Signal.CLOSE


def test_shutting_down_in_the_middle_of_a_beginning() -> None:
    engine = ImapServer()
    engine.next_event()
    engine.shut_down()
    engine.greet("ready")
    assert b"".join(engine.data_to_send()).startswith(b"* OK ready\r\n* BYE [UNAVAILABLE] ")
    engine = opened().log_in().engine
    engine.receive_data(b"a IDLE\r\n")
    engine.next_event()
    engine.shut_down()
    engine.idle()
    assert engine.next_event() is Signal.CLOSE


def test_shutting_down_while_a_refused_message_comes() -> None:
    script = opened().log_in()
    script.refuses[ev.MessageStart] = ("NO", "no", "TRYCREATE")
    script.say(b"a APPEND x {5+}\r\nab")
    script.engine.shut_down()
    assert script.said() == b""
    assert script.say(b"cde\r\n").startswith(b"a NO [TRYCREATE] no\r\n* BYE ")


def test_a_long_line_in_the_middle_of_a_command_and_without_a_tag() -> None:
    script = opened()
    said = script.say(b"t LOGIN {1+}\r\nx " + b"y" * limits.MAX_LINE + b"\r\n")
    assert said == b"t BAD [LIMIT] The line is too long\r\n"
    assert script.say(b"(" * limits.MAX_LINE + b"\r\n") == b"* BAD [LIMIT] The line is too long\r\n"


def test_messages_of_one_append_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MESSAGES", 2)
    script = opened().log_in()
    said = script.say(b"a APPEND x" + b" {1+}\r\nx" * 3 + b"\r\nb NOOP\r\n")
    assert said == b"a NO [LIMIT] At most 2 messages at once\r\nb OK done\r\n"


def test_uid_only_and_what_the_client_knows() -> None:
    """RFC 9586 §3.7: no message numbers in QRESYNC either."""
    script = opened().log_in()
    script.say(b"a ENABLE UIDONLY QRESYNC\r\n")
    assert script.say(b"b SELECT x (QRESYNC (1 2 1:3 (1 3)))\r\n").startswith(b"b BAD [UIDREQUIRED] ")
    assert script.say(b"c SELECT x (QRESYNC (1 2 1:3))\r\n") == b"c OK done\r\n"


def test_what_is_pipelined_behind_compress_is_compressed() -> None:
    script = opened().log_in()
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    said = script.say(b"a COMPRESS DEFLATE\r\n" + pack.compress(b"b NOOP\r\n") + pack.flush(zlib.Z_SYNC_FLUSH))
    assert said.startswith(b"a OK done\r\n")
    assert zlib.decompressobj(-15).decompress(said.removeprefix(b"a OK done\r\n")) == b"b OK done\r\n"
