# SPDX-License-Identifier: Apache-2.0
"""The table: complete, and what it forbids is refused in every state without changing it."""

from __future__ import annotations

import pytest

from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp import events as ev
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.table import COMMANDS, IN_TRANSACTION, READS_LINES, WAIT_LIMITS, Command, State
from tests.transcripts.smtp_session import SmtpScript

WAYS: dict[State, bytes] = {
    State.GREETED: b"",
    State.IDENTIFIED: b"EHLO a.test\r\n",
    State.MAIL: b"EHLO a.test\r\nMAIL FROM:<>\r\n",
    State.RCPT: b"EHLO a.test\r\nMAIL FROM:<>\r\nRCPT TO:<bob@bob.test>\r\n",
    State.CHUNKS: b"EHLO a.test\r\nMAIL FROM:<>\r\nRCPT TO:<bob@bob.test>\r\nBDAT 3\r\na\r\n",
    State.FAILED_CHUNKS: b"EHLO a.test\r\nMAIL FROM:<>\r\nBDAT 3\r\na\r\n",
    State.REFUSED: b"",
}
ARGUMENTS = {
    b"EHLO": b"EHLO a.test",
    b"HELO": b"HELO a.test",
    b"MAIL": b"MAIL FROM:<alice@alice.test>",
    b"RCPT": b"RCPT TO:<carol@bob.test>",
    b"BDAT": b"BDAT 0",
    b"VRFY": b"VRFY bob",
    b"EXPN": b"EXPN list",
    b"AUTH": b"AUTH PLAIN AA==",
}
ROWS = list(COMMANDS[Mode.MX].values())


def script_in(state: State) -> SmtpScript:
    config = {"offers_tls": "yes", "auth_needs_tls": "no"}
    if state is State.REFUSED:
        config["greeting"] = "554"
    script = SmtpScript(config, [])
    pump(script, WAYS[state])
    assert script.engine.state is state
    return script


def pump(script: SmtpScript, octets: bytes) -> None:
    if octets:
        script.engine.receive_data(octets)
    while not isinstance(event := script.engine.next_event(), Signal):
        script.answer(event)


@pytest.mark.parametrize("state", WAYS, ids=lambda state: state.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.verb.decode())
def test_legal_is_what_the_table_says(row: Command, state: State) -> None:
    """RFC 5321 §4.1.4: a verb out of order is 503 5.5.1 and changes nothing."""
    script = script_in(state)
    pump(script, ARGUMENTS.get(row.verb, row.verb) + b"\r\n")
    last = script.events[-1]
    if state in row.legal:
        assert not isinstance(last, ev.CommandError)
    else:
        assert isinstance(last, ev.CommandError)
        assert (last.reply.code, str(last.reply.status)) == (503, "5.5.1")
        spoiled = row.verb == b"BDAT" and state in IN_TRANSACTION
        assert script.engine.state is (State.FAILED_CHUNKS if spoiled else state)


def test_every_state_has_a_wait_limit() -> None:
    assert set(WAIT_LIMITS) == set(State)


def test_no_row_is_legal_where_no_line_is_read() -> None:
    for row in ROWS:
        assert row.legal <= READS_LINES


def test_lmtp_has_lhlo_and_no_ehlo() -> None:
    """RFC 2033 §4.1."""
    assert b"LHLO" in COMMANDS[Mode.LMTP]
    assert not {b"EHLO", b"HELO"} & set(COMMANDS[Mode.LMTP])
    assert b"LHLO" not in COMMANDS[Mode.MX]
