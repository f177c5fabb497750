# SPDX-License-Identifier: Apache-2.0
"""What must hold for every dialogue: no cut changes it, nothing raises, nothing is said after the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp import events as ev
from tests.transcripts.smtp_session import SmtpScript

HELLO = b"EHLO a.test\r\n"
ENVELOPE = b"MAIL FROM:<alice@alice.test>\r\nRCPT TO:<bob@bob.test>\r\n"
NOBODY = b"MAIL FROM:<>\r\nRCPT TO:<unknown@bob.test>\r\n"
DIALOGUES: dict[str, tuple[dict[str, str], list[bytes]]] = {
    "letter": (
        {},
        [
            HELLO,
            b"MAIL FROM:<alice@alice.test> SIZE=10\r\nRCPT TO:<bob@bob.test>\r\nRCPT TO:<full@bob.test>\r\nDATA\r\n",
            b"Subject: x\r\n\r\n..dot\r\n.\r\n",
            NOBODY,
            b"DATA\r\nQUIT\r\n",
        ],
    ),
    "smuggling": (
        {},
        [HELLO, ENVELOPE, b"DATA\r\none\r\n.\nMAIL FROM:<e@alice.test>\r\n.\r\nNOOP\r\nNO\nOP\r\n\r\r\n"],
    ),
    "chunks": (
        {"max_message_size": "30"},
        [
            HELLO,
            ENVELOPE,
            b"BDAT 4\r\na\r\n\rBDAT 3 LAST\r\n\nbc",
            ENVELOPE,
            b"BDAT 31\r\n0123456789012345678901234567890",
            b"BDAT 5 LAST\r\nNOOP\nRSET\r\nBDAT 6\r\nNOOP\r\nBDAT x\r\nNOOP\r\n",
        ],
    ),
    "auth": (
        {"auth_needs_tls": "no", "mode": "submission", "requires_auth": "yes"},
        [
            HELLO,
            ENVELOPE,
            b"AUTH LOGIN\r\nYWxp\r\n*\r\nAUTH LOGIN YWxpY2VAYWxpY2UudGVzdA==\r\nc2VjcmV0\r\n",
            b"AUTH PLAIN =\r\n",
            ENVELOPE,
            b"RSET\r\n",
        ],
    ),
    "lmtp": (
        {"mode": "lmtp"},
        [
            HELLO,
            b"LHLO a.test\r\n",
            ENVELOPE,
            b"RCPT TO:<over@bob.test>\r\nDATA\r\n.\r\n",
            NOBODY,
            b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\nQUIT\r\n",
        ],
    ),
    "lines": (
        {},
        [b"x" * 13000, b"\r\nNOOP ", b"y" * 600, b"\r\nNO\0OP\r\n", b"\xff" * 40, b"\r\nGET / HTTP/1.1\r\n"],
    ),
}


def play(config: dict[str, str], pieces: list[bytes]) -> tuple[list[ev.Event], bytes]:
    """(events with content joined, all that the server said) for a client that sends these pieces, then closes."""
    script = SmtpScript(config, [])
    engine = script.engine
    out = b""
    for piece in [*filter(None, pieces), b""]:
        while not isinstance(event := engine.next_event(), Signal):
            script.answer(event)
        assert event is not Signal.PAUSED
        out += b"".join(engine.data_to_send())
        engine.receive_data(piece)
    while not isinstance(event := engine.next_event(), Signal):
        script.answer(event)
    assert event is Signal.CLOSE
    return script.events, out + b"".join(engine.data_to_send())


def judged(events: list[ev.Event]) -> list[ev.Event]:
    """Without the content that came before a MessageBad: how much of it was given depends on the cuts."""
    return [
        event
        for event, after in zip(events, [*events[1:], None], strict=True)
        if not (isinstance(event, ev.BodyChunk) and isinstance(after, ev.MessageBad | ev.Disconnected | None))
    ]


@pytest.mark.parametrize("name", DIALOGUES)
def test_every_single_cut_and_every_octet_alone(name: str) -> None:
    config, dialogue = DIALOGUES[name][0], b"".join(DIALOGUES[name][1])
    events, said = play(config, [dialogue])
    assert play(config, [dialogue[i : i + 1] for i in range(len(dialogue))])[1] == said
    for cut in range(0, len(dialogue), 1 + len(dialogue) // 500):
        got, got_said = play(config, [dialogue[:cut], dialogue[cut:]])
        assert judged(got) == judged(events), cut
        assert got_said == said, cut


@given(st.sampled_from(sorted(DIALOGUES)), st.data())
def test_any_cuts(name: str, draw: st.DataObject) -> None:
    config, dialogue = DIALOGUES[name][0], b"".join(DIALOGUES[name][1])
    places = sorted(draw.draw(st.lists(st.integers(0, len(dialogue)), max_size=12)))
    pieces = [dialogue[a:b] for a, b in zip([0, *places], [*places, len(dialogue)], strict=True)]
    events, said = play(config, [dialogue])
    got, got_said = play(config, pieces)
    assert judged(got) == judged(events)
    assert got_said == said


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_disconnect_at_every_octet(name: str) -> None:
    """The end of the stream anywhere: one Disconnected, or a close that was due anyhow, and no letter half read."""
    config, dialogue = DIALOGUES[name][0], b"".join(DIALOGUES[name][1])
    whole, _ = play(config, [dialogue])
    letters = sum(isinstance(event, ev.MessageEnd) for event in whole)
    for end in range(0, len(dialogue), 1 + len(dialogue) // 500):
        events, _ = play(config, [dialogue[:end]])
        assert sum(isinstance(event, ev.MessageEnd) for event in events) <= letters
        gone = [event for event in events if isinstance(event, ev.Disconnected)]
        assert len(gone) <= 1
        assert not gone or events[-1] is gone[0]


WORDS = (
    "EHLO a.test|HELO a|LHLO a|MAIL FROM:<a@alice.test>|RCPT TO:<bob@bob.test>|DATA|RSET|NOOP|QUIT|BDAT 5|BDAT 3 LAST|"
    "BDAT 0|AUTH PLAIN|AUTH LOGIN|*|AA==|STARTTLS|VRFY x|\r\n|\r\n|\r\n|\n|\r|.|\0| "
)
TOKENS = st.sampled_from([*WORDS.encode().split(b"|"), b"\xff", b"x" * 700])
CONFIGS: list[dict[str, str]] = [
    {},
    {"mode": "lmtp"},
    {"max_message_size": "4"},
    {"mode": "submission", "auth_needs_tls": "no", "requires_auth": "yes"},
]


@settings(max_examples=300)
@given(st.sampled_from(CONFIGS), st.lists(TOKENS | st.binary(max_size=4), max_size=40), st.integers(1, 30))
def test_random_octets_never_raise_and_cuts_never_matter(config: dict[str, str], parts: list[bytes], size: int) -> None:
    octets = b"".join(parts)
    pieces = [octets[i : i + size] for i in range(0, len(octets), size)]
    events, said = play(config, pieces)
    whole, whole_said = play(config, [octets])
    assert judged(events) == judged(whole)
    assert said == whole_said
    assert all(line[:3].isdigit() for line in said.split(b"\r\n") if line)
