# SPDX-License-Identifier: Apache-2.0
"""The IMAP family measures what it says: its letters are as they should be, its clients notice what is missing."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import pwd
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.imap_client import TAG, WrongAnswerError
from bench.imap_idle import Letter, delays, summary
from bench.imap_load import Burst, Loader
from bench.imap_scripts import SCRIPTS, Load, Script, Step
from bench.peers.base import maildir

from bench import imap_idle, imap_letters, imap_null, imap_sync

OK = TAG + b" OK done\r\n"


def text_of(content: bytes) -> str:
    letter = email.message_from_bytes(content, policy=email.policy.default)
    return "".join(part.get_content() for part in letter.walk() if part.get_content_maintype() == "text")


@pytest.mark.parametrize("number", range(10))
def test_a_letter_of_each_kind_has_its_word_once_it_is_decoded_and_lines_that_may_be_sent(number: int) -> None:
    content = imap_letters.whole(number, 2048)
    text = text_of(content)
    assert imap_letters.word(number).decode() in text
    assert imap_letters.word(number + 1).decode() not in text
    assert content.count(b"\n") == content.count(b"\r\n")
    assert max(map(len, content.split(b"\r\n"))) <= 78  # RFC 5322 §2.1.1
    assert TAG not in content
    assert not any(part.defects for part in email.message_from_bytes(content, policy=email.policy.default).walk())


def test_some_words_are_found_only_by_a_search_that_decodes() -> None:
    """Else a server that looks for the octets alone would win, with wrong answers for real mail."""
    hidden = [number for number in range(10) if imap_letters.word(number) not in imap_letters.whole(number, 2048)]
    assert hidden == [6, 7, 8]


def test_the_numbers_that_a_search_must_find_are_those_of_the_letters_with_the_word() -> None:
    words = [imap_letters.word(number) for number in range(5000)]
    assert imap_letters.holders(4003, 5000) == [at + 1 for at, word in enumerate(words) if word == words[4003]]


def test_letters_have_about_the_octets_that_were_asked_for() -> None:
    for number in range(10):
        assert 0.9 * 10_240 < len(imap_letters.whole(number, 10_240)) < 1.1 * 10_240


@pytest.mark.parametrize("count", [2, imap_letters.MANY + 1])
def test_each_filled_maildir_has_every_letter_under_a_name_that_tells_its_sizes(tmp_path: Path, count: int) -> None:
    boxes = [tmp_path / str(number) for number in range(count)]
    imap_letters.fill_maildirs(boxes, 12, 1024, pwd.getpwuid(os.getuid()).pw_name)
    for box in (boxes[0], boxes[-1]):
        assert maildir(box)[0] == 12
        for number, path in enumerate(sorted((box / "cur").iterdir())):  # as Dovecot numbers them
            kept = path.read_bytes()
            whole = imap_letters.whole(number, 1024)
            assert kept == whole.replace(b"\r\n", b"\n")
            assert f",S={len(kept)},W={len(whole)}:2," in path.name


# --- the load client ------------------------------------------------------------------------------


@contextlib.contextmanager
def server(answer: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """Greets, then gives to each command (without its tag) the pieces of an answer, one write for each."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with sock, sock.makefile("rb") as lines:
                    sock.sendall(b"* OK hello\r\n")
                    for line in lines:
                        for piece in answer(line.strip().partition(b" ")[2]):
                            sock.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class Saying(Script):
    """One step, said again and again without a mailbox."""

    selects = False
    step = Step(b"NOOP")

    def turn(self, lane: int, number: int) -> list[Step]:
        return [self.step]


def said(port: int, step: Step, turns: int = 3) -> dict[str, float]:
    script = Saying(Load(port, "flags", at_once=1, letters=2, octets=100))
    script.step = step
    return Loader(script).burst(turns)


LINES = b"* 1 FETCH (FLAGS ())\r\n* 2 FETCH (FLAGS ())\r\n"
FLAGS = Step(b"FETCH 1:* (FLAGS)", fetches=2, octets=len(LINES), line=b"* 2 FETCH (FLAGS ())\r\n", is_timed=True)


def answering(*pieces: bytes) -> Callable[[bytes], list[bytes]]:
    return lambda command: list(pieces) if command.startswith(b"FETCH") else [OK]


def test_an_answer_cut_anywhere_is_counted_once() -> None:
    whole = LINES + OK
    at = iter(range(1, len(whole)))

    def answer(command: bytes) -> list[bytes]:
        if not command.startswith(b"FETCH"):
            return [OK]
        cut = next(at)
        return [whole[:cut], whole[cut:]]

    with server(answer) as port:
        found = said(port, FLAGS, len(whole) - 1)
    assert 0 < found["p50_ms"] <= found["p99_ms"] < found["seconds"] * 1000


def test_an_answer_longer_than_the_buffer_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a buffer of a few octets every mark is cut somewhere."""
    monkeypatch.setattr("bench.imap_load.CHUNK", 7)
    with server(answering(LINES + OK)) as port:
        said(port, FLAGS)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (LINES[: len(LINES) // 2] + OK, "1 FETCH lines, not 2"),
        (LINES.replace(b"()", b"") + OK, "octets instead of"),
        (LINES.replace(b"2", b"3") + OK, r"no line b'\* 2 FETCH"),
        (TAG + b" NO [LIMIT] no\r\n", r"\[LIMIT\]"),
        (b"* BYE\r\n" + TAG + b" BAD what\r\n", "BAD what"),
    ],
)
def test_a_wrong_answer_is_an_error(answer: bytes, complaint: str) -> None:
    with server(answering(answer)) as port, pytest.raises(WrongAnswerError, match=complaint):
        said(port, FLAGS)


def test_octets_that_are_only_counted_are_counted() -> None:
    letters = b"* 1 FETCH (BODY[] {5000}\r\n" + b"x" * 5000 + b")\r\n"
    step = Step(b"FETCH 1 (BODY[])", octets=len(letters), unread=len(letters) - 100)
    with server(answering(letters + OK)) as port:
        assert said(port, step)["turns"] == 3
    with server(answering(letters + letters + OK)) as port, pytest.raises(WrongAnswerError, match="octets instead of"):
        said(port, step)


def test_a_server_that_leaves_octets_out_and_then_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.imap_load.ANSWER_LIMIT", 0.01)
    step = Step(b"FETCH 1 (BODY[])", octets=5000, unread=4900)
    with server(answering(b"* 1 FETCH\r\n" + OK)) as port, pytest.raises(WrongAnswerError, match="not all of it"):
        said(port, step)


@pytest.mark.parametrize("name", ["sessions", "select", "envelopes", "flags", "bodies"])
def test_the_null_server_passes_the_checks_of_the_client(name: str) -> None:
    load = Load(0, name, at_once=2, letters=30, octets=1024)
    with imap_null.running(load) as port:
        script = SCRIPTS[name](load.at(port))
        script.prepare()
        assert Loader(script).burst(20)["turns"] == 20


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("flags", b"* 7 FETCH", b"* 8 FETCH", "FLAGS of 30 letters"),
        ("envelopes", b'"<6@elsewhere', b'"<7@elsewhere', "Message-IDs"),
        ("envelopes", b"RFC822.SIZE ", b"RFC822.SIZE 1", "SIZE is not"),
        ("bodies", b"lazy dog", b"lazy cat", "letter 1 is not what"),
        ("sessions", b"* 30 EXISTS", b"* 29 EXISTS", "29"),
    ],
)
def test_what_a_mailbox_should_have_is_checked_before_the_clock_starts(
    monkeypatch: pytest.MonkeyPatch, name: str, old: bytes, new: bytes, complaint: str
) -> None:
    load = Load(0, name, at_once=1, letters=30, octets=1024)
    canned = {command: answer.replace(old, new) for command, answer in imap_null.answers(load).items()}
    monkeypatch.setattr(imap_null, "answers", lambda _: canned)
    with imap_null.running(load) as port, pytest.raises(WrongAnswerError, match=complaint):
        SCRIPTS[name](load.at(port)).prepare()


def test_every_store_changes_something_and_flags_that_are_not_there_afterwards_are_missed() -> None:
    flagged: set[int] = set()

    def answer(command: bytes) -> list[bytes]:
        if found := re.match(rb"STORE (\d+) ([+-])FLAGS", command):
            before = len(flagged)
            (flagged.add if found[2] == b"+" else flagged.discard)(int(found[1]))
            return [b"* %s FETCH (FLAGS ())\r\n" % found[1] if len(flagged) != before else b"", OK]
        if command.startswith(b"FETCH"):
            lines = (b"* %d FETCH (FLAGS (%s))\r\n" % (n, b"\\Flagged" if n in flagged else b"") for n in (1, 2, 3))
            return [b"".join(lines), OK]
        return [b"* 3 EXISTS\r\n" if command.startswith(b"SELECT") else b"", OK]

    with server(answer) as port:
        script = SCRIPTS["store one"](Load(port, "store one", at_once=1, letters=3, octets=100))
        script.prepare()
        Loader(script).burst(4)  # three set, one taken away again
        script.verify()
        flagged.clear()
        with pytest.raises(WrongAnswerError, match="0 letters are flagged instead of 2"):
            script.verify()


@pytest.mark.parametrize("is_lossy", [False, True])
def test_an_appended_letter_that_is_not_there_as_it_was_sent_is_missed(*, is_lossy: bool) -> None:
    kept: list[bytes] = []

    def answer(command: bytes) -> list[bytes]:
        if command.startswith(b"SELECT"):
            return [b"* %d EXISTS\r\n" % len(kept), OK]
        if command.startswith(b"FETCH"):
            letters = [letter[1:] if is_lossy else letter for letter in kept]
            return [b"".join(b"* 1 FETCH (BODY[] {%d}\r\n%s)\r\n" % (len(each), each) for each in letters), OK]
        return [OK]

    with server(answer) as port:
        script = SCRIPTS["append"](Load(port, "append", at_once=1, letters=0, octets=1024))
        script.prepare()
        for number in range(3):
            (step,) = script.turn(0, number)
            head, _, letter = step.command.partition(b"\r\n")
            assert head == b"APPEND INBOX (\\Seen) {%d+}" % len(letter)
            kept.append(letter)
        with pytest.raises(WrongAnswerError, match="not every letter") if is_lossy else contextlib.nullcontext():
            script.verify()


def test_a_burst_without_a_turn_for_each_lane_ends() -> None:
    with server(answering(LINES + OK)) as port:
        script = Saying(Load(port, "flags", at_once=1, letters=2, octets=100))
        burst = Burst(script, iter(()), bytearray(10_000))
        burst.open_all()
        burst.play()
        burst.close()


# --- IDLE -----------------------------------------------------------------------------------------


class PostOffice:
    """IMAP connections in IDLE and an LMTP socket; a letter is told `early` (before its reply) or after it."""

    def __init__(self, folder: Path, *, is_early: bool) -> None:
        self.lmtp = folder / "lmtp"
        self.is_early = is_early
        self.count = imap_idle.LETTERS
        self._imap = socket.create_server(("127.0.0.1", 0))
        self.port = self._imap.getsockname()[1]
        self._lmtp = socket.socket(socket.AF_UNIX)
        self._lmtp.bind(str(self.lmtp))
        self._lmtp.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> PostOffice:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._imap.close()
        self._lmtp.close()

    def _serve(self) -> None:
        self._client, _ = self._imap.accept()
        with self._client, self._client.makefile("rb") as lines:
            self._client.sendall(b"* OK hello\r\n")
            for line in lines:
                if b" IDLE" in line:
                    self._client.sendall(b"+ idling\r\n")
                    break
                exists = b"* %d EXISTS\r\n" % self.count if b" SELECT" in line else b""
                self._client.sendall(exists + OK)
            self._take()

    def _take(self) -> None:
        sock, _ = self._lmtp.accept()
        with sock, sock.makefile("rb") as lines:
            sock.sendall(b"220 hello\r\n")
            for line in lines:
                if line == b".\r\n":
                    if self.is_early:
                        self._tell()
                    sock.sendall(b"250 ok\r\n")
                    if not self.is_early:
                        self._tell()
                elif line.startswith(b"LHLO"):
                    sock.sendall(b"250-hello\r\n250 SIZE\r\n")
                elif line.startswith((b"MAIL", b"RCPT")):
                    sock.sendall(b"250 ok\r\n")
                elif line == b"DATA\r\n":
                    sock.sendall(b"354 go\r\n")

    def _tell(self) -> None:
        self.count += 1
        self._client.sendall(b"* %d EXISTS\r\n* 1 RECENT\r\n" % self.count)


@pytest.mark.parametrize("is_early", [False, True])
def test_the_delay_of_each_letter_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_early: bool
) -> None:
    monkeypatch.setattr(imap_idle, "PACE", 0.0)
    with PostOffice(tmp_path, is_early=is_early) as office:
        client = imap_idle.idling(office.port, "user0@bench.test")
        found = delays(office.lmtp, [client], ("user0@bench.test",), 5)
        client.close()
    assert 0 <= found["p50_ms"] <= found["p99_ms"]
    assert found["whole_p50_ms"] > 0
    assert found["early_percent"] == 0 or is_early


def test_a_letter_that_is_told_with_a_wrong_number_is_an_error(tmp_path: Path) -> None:
    with PostOffice(tmp_path, is_early=True) as office:
        client = imap_idle.idling(office.port, "user0@bench.test")
        office.count += 1
        with client, pytest.raises(WrongAnswerError, match="after 1 letters"):
            delays(office.lmtp, [client], ("user0@bench.test",), 5)


def test_what_is_told_before_the_reply_has_no_delay() -> None:
    found = summary([Letter(1.0, 1.5, 1.25), Letter(2.0, 2.5, 2.75)])
    assert found == {"p50_ms": 250.0, "p99_ms": 250.0, "whole_p50_ms": 750.0, "early_percent": 50.0}


# --- mbsync ---------------------------------------------------------------------------------------


def a_copy(folder: Path, letters: int) -> Path:
    """A Maildir as mbsync leaves it."""
    for part in ("new", "cur"):
        (folder / part).mkdir()
    for number in range(letters):
        text = imap_letters.whole(number, imap_sync.OCTETS).replace(b"\r\n", b"\n")
        marked = text.replace(b"\n\n", b"\nX-TUID: abcdefghijkl\n\n", 1)
        (folder / ("new" if number % 2 else "cur") / str(number)).write_bytes(marked)
    return folder


def test_a_whole_copy_passes(tmp_path: Path) -> None:
    imap_sync.check(a_copy(tmp_path, 10), 10)


def test_a_copy_that_lacks_a_letter_or_an_octet_is_an_error(tmp_path: Path) -> None:
    a_copy(tmp_path, 10)
    with pytest.raises(WrongAnswerError, match="10 letters instead of 11"):
        imap_sync.check(tmp_path, 11)
    (tmp_path / "new" / "3").write_bytes((tmp_path / "new" / "3").read_bytes()[:-1])
    with pytest.raises(WrongAnswerError, match="3 is not a letter"):
        imap_sync.check(tmp_path, 10)
