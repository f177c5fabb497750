# SPDX-License-Identifier: Apache-2.0
"""curl: one command for each thing that one may do with a mailbox, by URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from .imap_server import SENDER, SPECIAL, TLS, Person
from .letters import ATTACHMENT, BODY, assert_carries, letter
from .programs import require, run

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", TLS)
def test_curl(person: Person, tmp_path: Path, mechanism: str, tls: str) -> None:
    require("curl")
    sent = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)]
    person.deliver(*sent)
    scheme = "imaps" if tls == "implicit" else "imap"

    def curl(path: str, *words: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        return run(
            [
                *("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", person.server.certificate),
                *("--login-options", f"AUTH={mechanism}", "--user", f"{person.login}:{person.password}"),
                *(*words, f"{scheme}://localhost:{person.port(tls)}/{path}"),
            ],
            codes=codes,
        )

    names = {line.rpartition(" ")[2].strip('"') for line in curl("").splitlines()}
    assert names == {"INBOX", *SPECIAL}
    for number, octets in enumerate(sent, 1):
        curl(f"INBOX;UID={number}", "--output", tmp_path / "letter")
        assert_carries((tmp_path / "letter").read_bytes(), octets)
    curl("INBOX;MAILINDEX=1;SECTION=TEXT", "--output", tmp_path / "text")
    assert (tmp_path / "text").read_bytes() == BODY.encode()
    criteria = quote('SUBJECT "number 2" SENTON 29-Feb-2024')
    assert curl(f"INBOX?{criteria}").split() == ["*", "SEARCH", "3"]
    assert "\\Flagged" in curl("INBOX", "--request", "STORE 1 +FLAGS (\\Flagged)")
    assert person.flags("number 0") >= {"\\Flagged"}
    assert "MESSAGES 3" in curl("", "--request", "STATUS INBOX (MESSAGES UIDNEXT)")
    assert "1 FETCH" in curl("INBOX", "--request", "FETCH 1 (ENVELOPE BODYSTRUCTURE)")

    (tmp_path / "upload").write_bytes(sent[1])
    curl("Sent", "--upload-file", tmp_path / "upload")
    [kept] = person.letters("Sent")
    assert kept.octets == sent[1]
    curl("", "--request", "CREATE Boxes/Deep")
    curl("INBOX", "--request", "UID COPY 1 Boxes/Deep")
    assert person.subjects("Boxes/Deep") == ["number 0"]
    curl("INBOX", "--request", "STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert "1 EXPUNGE" in curl("INBOX", "--request", "EXPUNGE")
    assert person.subjects() == ["number 1", "number 2"]
    # What is not there: an error, which curl tells by its exit code.
    curl("Nowhere;UID=1", codes=(67,))
    assert "UIDVALIDITY" in curl("", "--request", "STATUS INBOX (UIDVALIDITY)")
