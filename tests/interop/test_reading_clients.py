# SPDX-License-Identifier: Apache-2.0
"""Programs that people fetch with: each logs in, checks our certificate, and gets the letters octet for octet."""

from __future__ import annotations

import mailbox
import os
import poplib
import pty
import ssl
import subprocess
from pathlib import Path

import pytest

from .house import ALICE, BOB, PASSWORD, House
from .letters import ATTACHMENT, letter
from .programs import PATIENCE, ROOT, require, run

pytestmark = pytest.mark.interop

TLS = ["starttls", "implicit"]


def port(house: House, tls: str) -> int:
    return house.ports["pop3s" if tls == "implicit" else "pop3"]


@pytest.fixture
def waiting(house: House) -> list[bytes]:
    """Three letters for Bob, as they lie in his mailbox."""
    for number, size in enumerate((0, ATTACHMENT, 0)):
        house.receive(letter(f"number {number}", "zoe@elsewhere.test", BOB, attachment=size), BOB)
    found = house.letters(BOB)
    assert len(found) == 3
    return found


def unix(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n")


# --- curl -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "+APOP"])
@pytest.mark.parametrize("tls", TLS)
def test_curl(house: House, waiting: list[bytes], tmp_path: Path, mechanism: str, tls: str) -> None:
    """AUTH with both mechanisms, and USER with PASS for want of APOP; LIST, UIDL, TOP, RETR, DELE."""
    require("curl")
    scheme = "pop3s" if tls == "implicit" else "pop3"

    def curl(path: str, *words: str | Path) -> str:
        options = [] if mechanism == "+APOP" else ["--login-options", f"AUTH={mechanism}"]
        return run(
            [
                *("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", house.certificate, *options),
                *("--user", f"{BOB}:{PASSWORD}", *words, f"{scheme}://localhost:{port(house, tls)}/{path}"),
            ]
        )

    sizes = [line.split() for line in curl("").splitlines()]
    assert sizes == [[str(n), str(len(octets))] for n, octets in enumerate(waiting, 1)]
    uidls = [line.split()[1] for line in curl("", "--request", "UIDL").splitlines()]
    assert len(set(uidls)) == 3
    assert "Subject: number 2" in curl("", "--request", "TOP 3 0")
    for number, octets in enumerate(waiting, 1):
        curl(str(number), "--output", tmp_path / str(number))
        assert (tmp_path / str(number)).read_bytes() == octets
    curl("1", "--request", "DELE", "--list-only")
    assert house.letters(BOB) == waiting[1:]


# --- fetchmail ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", TLS)
def test_fetchmail(house: House, waiting: list[bytes], tmp_path: Path, tls: str) -> None:
    """STLS and UIDL with `keep`: nothing is fetched twice; then `nokeep` takes what is left and deletes it."""
    require("fetchmail")
    box = tmp_path / "box"
    box.mkdir()
    config = tmp_path / "fetchmailrc"

    def fetch(options: str, code: int) -> list[bytes]:
        config.write_text(
            f'set idfile "{tmp_path / "ids"}"\nset invisible\n'
            f"poll localhost service {port(house, tls)} protocol pop3 {'uidl' if 'nokeep' not in options else ''}\n"
            f'  user "{BOB}" password "{PASSWORD}" {"ssl" if tls == "implicit" else ""} sslproto "auto"\n'
            f'  sslcertck sslcertfile "{house.certificate}" no rewrite pass8bits {options}\n'
            f'  mda "cat > {box}/$$"\n'
        )
        config.chmod(0o600)
        run(["fetchmail", "--fetchmailrc", config, "-v"], env={"FETCHMAILHOME": str(tmp_path)}, codes=(code,))
        files = sorted(box.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        found = [path.read_bytes() for path in files]
        for path in files:
            path.unlink()
        return found

    assert fetch("keep", 0) == [unix(octets) for octets in waiting]
    assert fetch("keep", 1) == []
    house.receive(letter("new", "zoe@elsewhere.test", BOB), BOB)
    new = house.letters(BOB)[3]
    assert fetch("keep", 0) == [unix(new)]
    assert len(house.letters(BOB)) == 4
    assert fetch("fetchall nokeep", 0) == [unix(octets) for octets in [*waiting, new]]
    assert house.letters(BOB) == []


# --- mpop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["user", "plain", "scram-sha-256"])
@pytest.mark.parametrize("tls", TLS)
def test_mpop(house: House, waiting: list[bytes], tmp_path: Path, mechanism: str, tls: str) -> None:
    """It pipelines. `keep` with a list of UIDLs, then not."""
    require("mpop")
    config = tmp_path / "mpoprc"
    box = tmp_path / "box"
    for part in ("new", "cur", "tmp"):
        (box / part).mkdir(parents=True)

    def fetch(keep: str) -> list[bytes]:
        config.write_text(
            f'account default\nhost localhost\nport {port(house, tls)}\nuser {BOB}\npassword "{PASSWORD}"\n'
            f"auth {mechanism}\ntls on\ntls_starttls {'off' if tls == 'implicit' else 'on'}\nkeep {keep}\n"
            f"tls_trust_file {house.certificate}\nreceived_header off\ndelivery maildir {box}\n"
            f"uidls_file {tmp_path / 'uidls'}\n"
        )
        config.chmod(0o600)
        run(["mpop", "--file", config])
        found = sorted(path.read_bytes() for path in (box / "new").iterdir())
        for path in (box / "new").iterdir():
            path.unlink()
        return found

    assert fetch("on") == sorted(unix(octets) for octets in waiting)
    assert fetch("on") == []
    house.receive(letter("new", "zoe@elsewhere.test", BOB), BOB)
    assert len(fetch("off")) == 1
    assert house.letters(BOB) == []


# --- getmail --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", TLS)
def test_getmail(house: House, waiting: list[bytes], tmp_path: Path, tls: str) -> None:
    require("getmail")
    for part in ("new", "cur", "tmp"):
        (tmp_path / "box" / part).mkdir(parents=True)
    kind = "SimplePOP3SSLRetriever" if tls == "implicit" else "SimplePOP3Retriever"
    # getmail knows no STLS, so without TLS it needs a listener where a password may be sent in the clear.
    trust = f"ca_certs = {house.certificate}\n" if tls == "implicit" else ""

    def fetch(delete: bool) -> list[bytes]:
        (tmp_path / "getmailrc").write_text(
            f"[retriever]\ntype = {kind}\nserver = localhost\nport = {port(house, tls)}\nusername = {BOB}\n"
            f"password = {PASSWORD}\n{trust}"
            f"[destination]\ntype = Maildir\npath = {tmp_path / 'box'}/\n"
            f"[options]\nread_all = false\ndelete = {delete}\ndelivered_to = false\nreceived = false\nverbose = 1\n"
        )
        run(["getmail", "--getmaildir", tmp_path, "--rcfile", "getmailrc"])
        found = sorted(path.read_bytes() for path in (tmp_path / "box" / "new").iterdir())
        for path in (tmp_path / "box" / "new").iterdir():
            path.unlink()
        return found

    assert fetch(delete=False) == sorted(unix(octets) for octets in waiting)
    assert fetch(delete=False) == []
    house.receive(letter("new", "zoe@elsewhere.test", BOB), BOB)
    assert len(fetch(delete=True)) == 1


# --- mutt -----------------------------------------------------------------------------------------


def test_mutt(house: House, waiting: list[bytes], tmp_path: Path) -> None:
    """It opens the maildrop on a terminal, copies every letter into an mbox, deletes them and leaves."""
    require("mutt")
    box = tmp_path / "box"
    box.touch()
    config = tmp_path / "muttrc"
    config.write_text(
        f'set pop_user = "{BOB}"\nset pop_pass = "{PASSWORD}"\nset ssl_force_tls = yes\nset mbox_type = mbox\n'
        f'set certificate_file = "{house.certificate}"\nset ssl_ca_certificates_file = "{house.certificate}"\n'
        "set confirmappend = no\nset confirmcreate = no\nset delete = yes\nset quit = yes\nset wait_key = no\n"
        "set copy_decode_weed = no\nset charset = utf-8\nset pop_delete = yes\n"
    )
    keys = f"<tag-pattern>~A<enter><tag-prefix><copy-message>{box}<enter><tag-prefix><delete-message><quit>"
    master, slave = pty.openpty()
    url = f"pops://localhost:{house.ports['pop3s']}/"
    with subprocess.Popen(
        ["mutt", "-F", str(config), "-e", f'push "{keys}"', "-f", url],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        os.close(slave)
        said = b""
        try:
            while data := os.read(master, 65536):
                said = (said + data)[-4000:]
        except OSError:
            pass  # the terminal ends with the program
        assert process.wait(PATIENCE) == 0, said.decode("utf-8", "replace")
    os.close(master)
    found = [unix(message.as_bytes()) for message in mailbox.mbox(box)]
    assert len(found) == 3, said.decode("utf-8", "replace")
    assert house.letters(BOB) == []


# --- Python's poplib ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", TLS)
def test_poplib(house: House, waiting: list[bytes], tls: str) -> None:
    """CAPA, UIDL, TOP, DELE with RSET, and two maildrops at once are one too many."""
    context = ssl.create_default_context(cafile=str(house.certificate))

    def log_in() -> poplib.POP3:
        if tls == "implicit":
            pop3: poplib.POP3 = poplib.POP3_SSL("localhost", port(house, tls), context=context, timeout=PATIENCE)
        else:
            pop3 = poplib.POP3("localhost", port(house, tls), timeout=PATIENCE)
            pop3.stls(context)
        pop3.user(BOB)
        pop3.pass_(PASSWORD)
        return pop3

    first = log_in()
    assert {"TOP", "UIDL", "PIPELINING", "RESP-CODES", "SASL"} <= set(first.capa())
    assert first.stat() == (3, sum(map(len, waiting)))
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        log_in()
    uidls = first.uidl()[1]
    head, _, rest = waiting[0].partition(b"\r\n\r\n")
    assert b"\r\n".join(first.top(1, 3)[1]) == head + b"\r\n\r\n" + b"\r\n".join(rest.split(b"\r\n")[:3])
    first.dele(1)
    first.rset()
    first.dele(2)
    first.quit()
    second = log_in()
    assert [line.split()[1] for line in second.uidl()[1]] == [line.split()[1] for line in (uidls[0], uidls[2])]
    second.quit()
    assert house.letters(BOB) == [waiting[0], waiting[2]]
    assert house.letters(ALICE) == []


def test_the_certificate_is_checked(house: House, tmp_path: Path) -> None:
    """What the tests above rest on: a client that does not know the certificate does not log in."""
    require("curl")
    url = f"pop3s://localhost:{house.ports['pop3s']}/"
    said = run(["curl", "--silent", "--show-error", "--user", f"{BOB}:{PASSWORD}", url], codes=(60,))
    assert "certificate" in said
    assert ROOT.is_dir()
