# SPDX-License-Identifier: Apache-2.0
"""The log tells what happened, and no secret."""

from __future__ import annotations

import io
from collections.abc import Iterator

import msgspec
import pytest
import structlog

from posthouse import telemetry


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def _log_in(password: str) -> None:
    raise ValueError(f"no table for {len(password)} characters")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_logged_exception_shows_no_local_variables(capfdbinary: pytest.CaptureFixture[bytes], as_json: bool) -> None:
    """A defect of ours within a login must not write the password into the log."""
    telemetry.configure(as_json=as_json)
    secret = "correct horse"
    try:
        _log_in(secret)
    except ValueError:
        telemetry.logger("net").exception("session failed")
    said = capfdbinary.readouterr().err
    assert b"session failed" in said
    assert b"no table for 13 characters" in said
    assert b"_log_in" in said
    assert secret.encode() not in said
    if as_json:
        assert msgspec.json.decode(said)["level"] == "error"


@pytest.mark.parametrize("as_json", [True, False])
def test_one_event_is_one_line_whatever_a_peer_says(capfdbinary: pytest.CaptureFixture[bytes], as_json: bool) -> None:
    telemetry.configure(as_json=as_json)
    telemetry.logger("smtp").info("refused", text="a\r\n2026-01-01 accepted\x1b[2J\u009b")
    said = capfdbinary.readouterr().err
    assert said.count(b"\n") == 1
    assert b"\x1b[2J" not in said
    assert as_json or b"\xc2\x9b" not in said  # JSON is for machines


async def test_lines_stay_in_order_and_warnings_do_not_wait() -> None:
    """Lines of information are written together, a warning at once with all that came before it."""
    file = io.BytesIO()
    writer = telemetry.LineWriter(file)
    writer.info(b"one")
    writer.info(b"two")
    assert file.getvalue() == b""
    writer.warning(b"three")
    assert file.getvalue() == b"one\ntwo\nthree\n"


def test_without_a_loop_a_line_is_written_at_once() -> None:
    file = io.BytesIO()
    telemetry.LineWriter(file).info(b"from a thread")
    assert file.getvalue() == b"from a thread\n"
