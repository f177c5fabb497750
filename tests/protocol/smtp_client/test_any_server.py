# SPDX-License-Identifier: Apache-2.0
"""Whatever a server says, in whatever pieces: the engine ends in outcomes, and delivers only when told so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posthouse.outcome import Outcome
from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_events import LetterDone, SessionReady
from tests.protocol.smtp_client.script import LETTER, TLS, Script, begin, client, envelope, ready

PATHS = envelope("bob@bob.test", "carol@bob.test", "dave@bob.test")

codes = st.sampled_from(
    ["220", "235", "250", "251", "334", "354", "421", "450", "452", "500", "503", "535", "550", "552"]
)
words = st.sampled_from(
    ["", " ", " ok", " 2.0.0 ok", " 4.7.1 later", " 5.1.1 who", " STARTTLS", " AUTH PLAIN", "-PIPELINING"]
)
replies = st.builds(lambda code, text: f"{code}{text}\r\n".encode(), codes, words)
noise = st.sampled_from([b"\r\n", b"\n", b"25", b"junk\r\n", b"\x00\xff"])
streams = st.lists(st.one_of(replies, replies, replies, replies, noise), max_size=14)


@given(
    st.lists(
        st.one_of(replies, st.just(b"250-STARTTLS\r\n250-AUTH PLAIN\r\n250-PIPELINING\r\n250 X\r\n")), max_size=12
    ),
    st.integers(0, 3),
    st.booleans(),
)
def test_any_session_ends(stream: list[bytes], at_once: int, with_login: bool) -> None:
    """Until the end of the stream: ready or failed, never an exception, never a letter delivered by accident."""
    credentials = Credentials("alice", "secret") if with_login else None
    script = Script(client(credentials=credentials, nonce="n"), at_once=at_once)
    has_begun = False
    for octets in [*stream, b""]:
        if octets:
            events = script.answer(octets)
        else:
            script.engine.receive_data(b"")
            events = script.pull()
        for event in events:
            if event is Signal.START_TLS:
                script.engine.tls_started(TLS)
            elif isinstance(event, SessionReady) and not has_begun:
                has_begun = True
                begin(script, PATHS)
            elif isinstance(event, LetterDone):
                assert len(event.outcomes) == 3
        script.hear()
    script.engine.quit()
    assert script.pull()[-1] is Signal.CLOSE


def outcomes_of(stream: list[bytes], keywords: tuple[str, ...], *, at_once: int, is_lmtp: bool) -> tuple[Outcome, ...]:
    """One reply at a time, as a server that waits for each of our words would send them."""
    script = begin(ready(*keywords, at_once=at_once, is_lmtp=is_lmtp), PATHS)
    heard = b""
    for octets in stream:
        heard += script.hear()
        for event in script.answer(octets):
            if isinstance(event, LetterDone):
                check(event.outcomes, heard)
                return event.outcomes
    script.engine.receive_data(b"")
    heard += script.hear()
    for event in script.pull():
        if isinstance(event, LetterDone):
            check(event.outcomes, heard)
            return event.outcomes
    raise AssertionError("the letter has no outcome")


def check(outcomes: tuple[Outcome, ...], heard: bytes) -> None:
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert outcome.status.cls in (2, 4, 5)
        if outcome.is_delivered:
            assert outcome.reply is not None
            assert outcome.reply.code // 100 == 2
            assert heard.endswith(LETTER + b".\r\n"), "delivered although the content was not sent"
        if outcome.is_failed:
            assert outcome.reply is not None
            assert outcome.reply.code // 100 == 5, "permanence must be said"
        assert "\r" not in outcome.diagnostic
        assert "\n" not in outcome.diagnostic


@given(streams, st.booleans(), st.booleans())
def test_any_replies_to_a_letter(stream: list[bytes], is_pipelined: bool, is_lmtp: bool) -> None:
    keywords = ("PIPELINING",) if is_pipelined else ()
    whole = outcomes_of(stream, keywords, at_once=0, is_lmtp=is_lmtp)
    in_pieces = outcomes_of(stream, keywords, at_once=1, is_lmtp=is_lmtp)
    assert whole == in_pieces
