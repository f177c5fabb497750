# SPDX-License-Identifier: Apache-2.0
"""Programs that people fetch with: each logs in, checks our certificate, and gets the letters octet for octet."""

from __future__ import annotations

import mailbox
import os
import poplib
import pty
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from .house import ALICE, BOB, PASSWORD, House
from .letters import ATTACHMENT, letter
from .programs import PATIENCE, require, run

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
def test_getmail(house: House, waiting: list[bytes], base: Path, tls: str) -> None:
    """It knows no STLS, so without TLS it needs a listener where a password may be sent in the clear."""
    require("getmail")
    folder = base / f"getmail-{tls}"
    folder.mkdir(mode=0o755)
    box = folder / "box"
    mailbox.Maildir(box).close()
    as_root = os.geteuid() == 0  # it does not deliver as root
    if as_root:
        for path in (box, *box.iterdir()):
            shutil.chown(path, "nobody")
    kind = "SimplePOP3SSLRetriever" if tls == "implicit" else "SimplePOP3Retriever"
    trust = f"ca_certs = {house.certificate}\n" if tls == "implicit" else ""

    def fetch(*, delete: bool) -> list[bytes]:
        (folder / "getmailrc").write_text(
            f"[retriever]\ntype = {kind}\nserver = localhost\nport = {port(house, tls)}\nusername = {BOB}\n"
            f"password = {PASSWORD}\n{trust}"
            f"[destination]\ntype = Maildir\npath = {box}/\n{'user = nobody' if as_root else ''}\n"
            f"[options]\nread_all = false\ndelete = {delete}\ndelivered_to = false\nreceived = false\nverbose = 1\n"
        )
        run(["getmail", "--getmaildir", folder, "--rcfile", "getmailrc"])
        found = sorted(path.read_bytes() for path in (box / "new").iterdir())
        for path in (box / "new").iterdir():
            path.unlink()
        return found

    assert fetch(delete=False) == sorted(unix(octets) for octets in waiting)
    assert fetch(delete=False) == []
    house.receive(letter("new", "zoe@elsewhere.test", BOB), BOB)
    assert len(fetch(delete=True)) == 1


def without_status(octets: bytes) -> bytes:
    head, _, body = octets.partition(b"\n\n")
    kept = [line for line in head.split(b"\n") if not line.startswith((b"Status:", b"Content-Length:", b"Lines:"))]
    return b"\n".join(kept) + b"\n\n" + body


# --- mutt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "plain", "user"])
def test_mutt(house: House, waiting: list[bytes], tmp_path: Path, mechanism: str) -> None:
    """It opens the maildrop on a terminal, copies every letter into an mbox, deletes them and leaves."""
    require("mutt")
    box = tmp_path / "box"
    mailbox.Maildir(box).close()
    config = tmp_path / "muttrc"
    config.write_text(
        f'set pop_user = "{BOB}"\nset pop_pass = "{PASSWORD}"\nset pop_authenticators = "{mechanism}"\n'
        f'set certificate_file = "{house.certificate}"\nset ssl_ca_certificates_file = "{house.certificate}"\n'
        f'set mbox_type = Maildir\nset mbox = "{tmp_path}/none"\nset spoolfile = "{box}"\nset ssl_force_tls = yes\n'
        "set confirmappend = no\nset confirmcreate = no\nset delete = yes\nset quit = yes\nset wait_key = no\n"
        "set move = no\nset charset = utf-8\n"
    )
    copies = (f"<jump>{number}<enter><copy-message><kill-line>{box}<enter>" for number in (1, 2, 3))
    keys = "".join(copies) + "<delete-pattern>~A<enter><quit>"
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
    found = sorted(path.read_bytes() for part in ("new", "cur") for path in (box / part).iterdir())
    # It adds a Status field to what it copies.
    assert [without_status(each) for each in found] == sorted(unix(octets) for octets in waiting), said[-500:]
    assert house.letters(BOB) == []


# --- Python's poplib ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", TLS)
def test_poplib(house: House, waiting: list[bytes], tls: str) -> None:
    """CAPA, UIDL, TOP, DELE with RSET, and two maildrops at once are one too many."""
    context = ssl.create_default_context(cafile=str(house.certificate))

    def connect() -> poplib.POP3:
        if tls == "implicit":
            pop3: poplib.POP3 = poplib.POP3_SSL("localhost", port(house, tls), context=context, timeout=PATIENCE)
        else:
            pop3 = poplib.POP3("localhost", port(house, tls), timeout=PATIENCE)
            pop3.stls(context)
        return pop3

    def log_in(pop3: poplib.POP3) -> poplib.POP3:
        pop3.user(BOB)
        pop3.pass_(PASSWORD)
        return pop3

    first = log_in(connect())
    assert {"TOP", "UIDL", "PIPELINING", "RESP-CODES", "SASL"} <= set(first.capa())
    assert first.stat() == (3, sum(map(len, waiting)))
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        log_in(second := connect())
    second.close()
    uidls = first.uidl()[1]
    head, _, rest = waiting[0].partition(b"\r\n\r\n")
    assert b"\r\n".join(first.top(1, 3)[1]) == head + b"\r\n\r\n" + b"\r\n".join(rest.split(b"\r\n")[:3])
    first.dele(1)
    first.rset()
    first.dele(2)
    first.quit()
    third = log_in(connect())
    assert [line.split()[1] for line in third.uidl()[1]] == [line.split()[1] for line in (uidls[0], uidls[2])]
    third.quit()
    assert house.letters(BOB) == [waiting[0], waiting[2]]
    assert house.letters(ALICE) == []


def test_the_certificate_is_checked(house: House) -> None:
    """What the tests above rest on: a client that does not know the certificate does not log in."""
    require("curl")
    url = f"pop3s://localhost:{house.ports['pop3s']}/"
    said = run(["curl", "--silent", "--show-error", "--user", f"{BOB}:{PASSWORD}", url], codes=(60,))
    assert "certificate" in said
