# SPDX-License-Identifier: Apache-2.0
"""`posthouse demo --once`: the story comes true with two real servers, from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.demo import play
from posthouse.demo.servers import DemoServer
from posthouse.demo.story import StepFailed, Story

COMMAND = [sys.executable, "-m", "posthouse", "demo", "--once"]
LIMIT = 240.0  # seconds; it takes about 15 where nothing else runs


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, as people have: the one of pytest is too long for a Unix socket in a folder below it."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.slow
def test_the_story_comes_true(folder: Path) -> None:
    """Exit 0, every scene told, nothing left behind."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for words in (
        "waits in Alice's queue",
        "Connection refused",
        "delivered",
        "refused",
        "never comes back",
        "came true",
    ):
        assert words in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(folder: Path) -> None:
    """No process, no folder and no traceback is left."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        COMMAND,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell gives what it starts in the background an ignored SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - one thread here
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "waits in Alice's queue" in line:
                break
        demo.send_signal(signal.SIGINT)
        said, complaint = demo.communicate(timeout=LIMIT)
    assert demo.returncode == 130
    assert complaint == ""
    assert "Ctrl-C" in said
    assert list(folder.iterdir()) == []


def test_a_step_that_fails_is_named_and_the_logs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def start(server: DemoServer) -> None:
        server.log.write_text("what the server had to say")
        server.ports = {"submission": 1, "pop3s": 2}

    async def submit(story: Story) -> None:
        story.step = "a step of the story"
        raise StepFailed("it did not happen")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(DemoServer, "found", lambda *_arguments: None)
    monkeypatch.setattr(DemoServer, "start", start)
    monkeypatch.setattr(Story, "_submit", submit)
    assert play(once=True) == 1
    assert "a step of the story: it did not happen" in capsys.readouterr().out
    assert [path.read_text() for path in tmp_path.glob("*/*.log")] == ["what the server had to say"]
