# SPDX-License-Identifier: Apache-2.0
"""mutt on a terminal: it reads, flags, copies, moves, deletes and files, over TLS of either kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from .imap_server import SENDER, TLS, Person, subject_of
from .imap_terminal import on_a_terminal
from .letters import ATTACHMENT, letter
from .programs import require

pytestmark = pytest.mark.interop


def mutt(person: Person, folder: Path, tls: str, keys: str, *, settings: str = "", mailbox: str = "INBOX") -> str:
    """Open the mailbox, press the keys, wait for its end; what it wrote."""
    require("mutt")
    scheme = "imaps" if tls == "implicit" else "imap"
    url = f"{scheme}://localhost:{person.port(tls)}"
    config = folder / "muttrc"
    config.write_text(
        f'set imap_user = "{person.login}"\nset imap_pass = "{person.password}"\nset folder = "{url}/"\n'
        f'set certificate_file = "{person.server.certificate}"\n'
        f'set ssl_ca_certificates_file = "{person.server.certificate}"\n'
        "set ssl_force_tls = yes\nset ssl_starttls = yes\nset confirmappend = no\nset confirmcreate = no\n"
        "set delete = yes\nset quit = yes\nset wait_key = no\nset move = no\nset charset = utf-8\nset auto_tag = yes\n"
        f'set timeout = 1\nset mail_check = 1\nset header_cache = "{folder}/cache"\n'
        f'set record = ""\nset postponed = "=Drafts"\nset trash = ""\n{settings}'
    )
    with on_a_terminal(
        ["mutt", "-F", config, "-e", f'push "{keys}"', "-f", f"{url}/{mailbox}"], {"HOME": str(folder)}
    ) as terminal:
        terminal.ends()
        return terminal.said


@pytest.mark.parametrize("tls", TLS)
def test_mutt(person: Person, tmp_path: Path, tls: str) -> None:
    sent = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(5)]
    person.deliver(*sent)
    before = person.letters()
    box = tmp_path / "box"
    for part in ("cur", "new", "tmp"):
        (box / part).mkdir(parents=True)
    url = f"{'imaps' if tls == 'implicit' else 'imap'}://localhost:{person.port(tls)}"
    said = mutt(
        person,
        tmp_path,
        tls,
        # Read the first, flag the second, copy the third to a new mailbox, move the fourth, delete the fifth,
        # and copy the second, with its attachment, to this machine.
        "<jump>1<enter><display-message><exit>"
        "<jump>2<enter><flag-message>"
        f"<jump>3<enter><copy-message><kill-line>{url}/Kept<enter>"
        f"<jump>4<enter><save-message><kill-line>{url}/Archive<enter>"
        "<jump>5<enter><delete-message>"
        f"<jump>2<enter><copy-message><kill-line>{box}<enter>"
        "<sync-mailbox><quit>",
        settings="set mbox_type = Maildir\n",
    )
    assert person.subjects() == ["number 0", "number 1", "number 2"], said[-2000:]
    assert "\\Seen" in person.flags("number 0")
    assert "\\Flagged" in person.flags("number 1")
    for mailbox, original in (("Kept", before[2]), ("Archive", before[3])):
        [kept] = person.letters(mailbox)
        assert kept.octets == original.octets, "the server copied it"
    [path] = [path for part in ("new", "cur") for path in (box / part).iterdir()]
    copied = path.read_bytes()
    assert subject_of(copied) == "number 1"
    assert copied.partition(b"\n\n")[2] == before[1].octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def test_searching_limiting_and_tagging(person: Person, tmp_path: Path) -> None:
    """Patterns that the server answers (=b), letters tagged and moved at once, and its cache of headers."""
    person.deliver(*(letter(f"number {n}", SENDER, person.login) for n in range(30)))
    person.append("INBOX", b"From: a@b.test\r\nSubject: other\r\n\r\nneedle in a haystack\r\n")
    url = f"imaps://localhost:{person.port()}"
    keys = (
        f"<tag-pattern>=b needle<enter><tag-pattern>~s 'number 1'<enter><save-message><kill-line>{url}/Archive<enter>"
    )
    said = mutt(person, tmp_path, "implicit", f"{keys}<sync-mailbox><quit>")
    assert sorted(person.subjects("Archive")) == sorted(["other", *(f"number {n}" for n in (1, *range(10, 20)))]), said
    assert len(person.letters()) == 31 - 12
    # Again, with what it remembers of the letters; and an attribute that it changes for all.
    said = mutt(person, tmp_path, "implicit", "<tag-pattern>~A<enter><set-flag>!<sync-mailbox><quit>")
    assert {flags for kept in person.letters() for flags in kept.flags} >= {"\\Flagged"}, said
    assert all("\\Flagged" in kept.flags for kept in person.letters())
