# SPDX-License-Identifier: Apache-2.0
"""Alpine on a terminal: it reads, flags, files, searches, expunges and postpones, over TLS of either kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .imap_server import SENDER, TLS, Person
from .imap_terminal import Terminal, on_a_terminal
from .letters import ATTACHMENT, letter
from .programs import require

pytestmark = pytest.mark.interop

FEATURES = (
    "quit-without-confirm,expunge-without-confirm,enable-aggregate-command-set,enable-flag-cmd,"
    "quell-maildomain-warning,quell-status-message-beeping,quell-user-lookup-in-passwd-file"
)


@contextlib.contextmanager
def alpine(person: Person, folder: Path, tls: str) -> Iterator[Terminal]:
    """Logged in, with the index of INBOX on the screen. The dialogue on the wire is shown when the test fails."""
    require("alpine")
    server = f"localhost:{person.port(tls)}/{'ssl' if tls == 'implicit' else 'tls'}/user={person.login}"
    config = folder / "pinerc"
    config.write_text(
        f"personal-name=Bob\nuser-domain=house.test\ninbox-path={{{server}}}INBOX\n"
        f"folder-collections=Mail {{{server}}}[]\npostponed-folder={{{server}}}Drafts\n"
        f"feature-list={FEATURES}\nlast-time-prune-questioned=999.12\nlast-version-used=9.99\n"
    )
    trust = {"HOME": str(folder), "SSL_CERT_FILE": str(person.server.certificate)}
    command = ["alpine", "-p", config, "-d", "imap=4,flush,verbose=1", "-i", "-nowrite_password_cache"]
    with on_a_terminal(command, trust) as terminal:
        try:
            terminal.dialogue(("ENTER PASSWORD", person.password + "\r"), ("for next login", "n"))
            yield terminal
        finally:
            for path in folder.glob(".pine-debug*"):
                lines = [line for line in path.read_text("utf-8", "replace").splitlines() if "IMAP" in line]
                print("\n".join(lines)[-8000:])  # noqa: T201


@pytest.mark.parametrize("tls", TLS)
def test_alpine(person: Person, tmp_path: Path, tls: str) -> None:
    sent = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(4)]
    sent[3] += b"x-needle\r\n"
    person.deliver(*sent)
    before = person.letters()
    with alpine(person, tmp_path, tls) as terminal:
        terminal.expect("opened with 4 messages")
        # Read the first; its text is a part of its own on the wire.
        terminal.press("j1\r\r")
        terminal.expect("Subject: number 0")
        terminal.expect("三|驿站|one dot")
        terminal.press("i")
        # The second: flag it, and look at what is attached.
        terminal.press("j2\r*")
        terminal.dialogue(("Important", "*"), ("Flagged message 2", "\r"), ("data.bin|Application", "i"))
        # The third goes into another mailbox: COPY, and deleted here.
        terminal.press("j3\rs")
        terminal.dialogue(("SAVE Msg #3", "Archive\r"), ("DONE|opied", "x"), ("1 message expunged", ""))
        # A letter that comes meanwhile is told at the next command.
        person.deliver(letter("meanwhile", SENDER, person.login))
        terminal.press("\x0c")
        terminal.expect("meanwhile")
        # Select by the text of the body, which the server searches, and delete what is found.
        terminal.press(";")
        terminal.dialogue(
            ("criteria", "t"), ("All msg text", "b"), ("to match", "x-needle\r"), ("matched 1 message", "ad")
        )
        terminal.press("x")
        terminal.expect("1 message expunged")
        # A letter begun and put aside for later: APPEND.
        terminal.press("c")
        terminal.dialogue(("COMPOSE", "zoe@elsewhere.test\r\r\rput aside\r"), ("put aside", "\x0f"))
        terminal.dialogue(("ostpone|saved|DONE", "q"))
        terminal.ends()
    assert person.subjects() == ["number 0", "number 1", "meanwhile"]
    assert "\\Seen" in person.flags("number 0")
    assert "\\Flagged" in person.flags("number 1")
    [kept] = person.letters("Archive")
    assert kept.octets == before[2].octets, "the server copied it"
    assert person.subjects("Drafts") == ["put aside"]
