# SPDX-License-Identifier: Apache-2.0
"""What this machine tells about a house: open folders, a full disk, certificates, ports that others have."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from posthouse.config import FILE_NAME, Settings, from_table
from posthouse.net.certificate import CertificateFault, ensure_self_signed, read_facts
from posthouse.net.checks import local_checks
from posthouse.services.checkup import Finding
from tests.fakes import EPOCH, SetClock


class Disk:
    free = 1 << 40

    def free_octets(self, folder: Path) -> int:
        return self.free


def look(folder: Path, *, is_serving: bool = False, disk: Disk | None = None, **table: Any) -> list[Finding]:
    settings: Settings = from_table({"hostname": "mail.alice.test", **table}, "test")
    port: Any = disk or Disk()
    found: list[Finding] = []
    for check in local_checks(folder, settings, port, SetClock(), is_serving=is_serving):
        found += check()
    assert all(each.remedy for each in found if each.level != "ok")
    return found


def level(found: list[Finding], area: str) -> str:
    return next(each.level for each in found if each.area == area)


def test_a_folder_open_to_others_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert level(look(tmp_path), "files") == "ok"
    tmp_path.chmod(0o750)
    assert level(look(tmp_path), "files") == "warning"


def test_a_file_that_the_next_start_refuses_is_told_while_the_server_runs(tmp_path: Path) -> None:
    """A reload of it changes nothing and says so in the log alone."""
    path = tmp_path / FILE_NAME
    path.write_text('hostname = "mail.alice.test"\n')
    assert not [each for each in look(tmp_path, is_serving=True) if each.area == "config"]
    path.write_text('hostname = "mail.alice.test"\n[queue]\nhistory = "7d"\nwarn = "x"\n[smpt]\n')
    found = [each for each in look(tmp_path, is_serving=True) if each.area == "config"]
    assert [(each.level, each.text.split(": ")[1]) for each in found] == [("error", "queue.warn"), ("error", "smpt")]
    path.write_text('hostname = "mail.alice.test"\n[queue]\nhistory = "7d"\n')
    [finding] = [each for each in look(tmp_path, is_serving=True) if each.area == "config"]
    assert "write 21d or more, or switch forwarding.srs off" in finding.text
    assert not [each for each in look(tmp_path) if each.area == "config"], "the command itself has read it"


def test_a_disk_below_the_reserve_is_an_error(tmp_path: Path) -> None:
    disk = Disk()
    disk.free = 300 << 20
    assert level(look(tmp_path, disk=disk), "disk") == "warning"
    disk.free = 200 << 20
    assert level(look(tmp_path, disk=disk), "disk") == "error"


def test_certificates(tmp_path: Path) -> None:
    files = {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "k.pem")}
    assert level(look(tmp_path), "tls") == "warning"  # self-signed only
    assert level(look(tmp_path, tls={"certificates": [files]}), "tls") == "error"  # not there
    ensure_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["mail.bob.test"], EPOCH)
    assert level(look(tmp_path, tls={"certificates": [files]}), "tls") == "error"  # for another name
    (tmp_path / "c.pem").unlink()
    ensure_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["*.alice.test"], EPOCH)
    assert level(look(tmp_path, tls={"certificates": [files]}), "tls") == "ok"
    (tmp_path / "k.pem").unlink()
    assert level(look(tmp_path, tls={"certificates": [files]}), "tls") == "error"


def test_a_renewed_certificate_with_the_old_key_is_told(tmp_path: Path) -> None:
    """The running server serves what it had; nobody would know before it is started again."""
    names = ["mail.alice.test"]
    given, issued = tmp_path / "c.pem", tmp_path / "acme" / "main" / "served.pem"
    ensure_self_signed(given, tmp_path / "k.pem", names, EPOCH)
    ensure_self_signed(tmp_path / "other.pem", tmp_path / "other.key", names, EPOCH)
    files = {"certificate": str(given), "key": str(tmp_path / "k.pem")}
    assert level(look(tmp_path, tls={"certificates": [files]}), "tls") == "ok"
    given.write_bytes((tmp_path / "other.pem").read_bytes())
    [finding] = [each for each in look(tmp_path, tls={"certificates": [files]}) if each.text.startswith(str(given))]
    assert (finding.level, finding.area) == ("error", "tls")
    issued.parent.mkdir(parents=True)
    issued.write_bytes((tmp_path / "k.pem").read_bytes() + given.read_bytes())
    assert any(each.text.startswith(str(issued)) for each in look(tmp_path, acme={"agreed": True}))


@pytest.mark.parametrize(
    "change",
    [
        (b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x11"),  # extKeyUsage becomes a second subjectAltName
        (b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x0f"),  # and a keyUsage that is none
        (b"\x3d\x04\x03\x02", b"\x3d\x04\x03\x7f"),  # signed as nobody knows
    ],
)
def test_an_odd_certificate_is_a_finding_and_no_accident(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    """What the library raises then is not always a ValueError, and comes late."""
    ensure_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["mail.alice.test"], EPOCH)
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "c.pem").read_text())
    (tmp_path / "c.pem").write_text(ssl.DER_cert_to_PEM_cert(der.replace(*change)))
    with pytest.raises(CertificateFault):
        read_facts(tmp_path / "c.pem")
    files = {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "k.pem")}
    assert level(look(tmp_path, tls={"certificates": [files]}), "tls") == "error"


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    ensure_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["mail.alice.test"], EPOCH - 725 * 86400)
    files = {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "k.pem")}
    found = look(tmp_path, tls={"certificates": [files]})
    assert [each.text.rpartition(" ends ")[2] for each in found if each.area == "tls"] == ["in 4 days"]


def test_nobody_can_send_or_read(tmp_path: Path) -> None:
    texts = [each.text for each in look(tmp_path, auth={"plaintext": ["pop3"]}) if each.area == "listen"]
    assert len(texts) == 4
    found = look(tmp_path, listen={"smtp": ["127.0.0.1:0"], "submissions": ["127.0.0.1:0"], "pop3s": ["127.0.0.1:0"]})
    assert level(found, "listen") == "ok"


def test_a_port_that_another_program_has_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        taken = look(tmp_path, listen={"smtp": [where]})
        mine = look(tmp_path, listen={"smtp": [where]}, is_serving=True)
    assert level(taken, "ports") == "error"
    assert level(mine, "ports") == "ok"
    assert level(look(tmp_path, listen={"smtp": [where]}), "ports") == "ok"
    silent = look(tmp_path, listen={"smtp": [where]}, is_serving=True)
    assert level(silent, "ports") == "error"


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    assert level(look(tmp_path, listen={"lmtp": [f"unix:{path}"]}), "ports") == "ok"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert level(look(tmp_path, listen={"lmtp": [f"unix:{path}"]}), "ports") == "error"
        assert level(look(tmp_path, listen={"lmtp": [f"unix:{path}"]}, is_serving=True), "ports") == "ok"
    assert path.exists()  # it looks and changes nothing
