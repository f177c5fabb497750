# SPDX-License-Identifier: Apache-2.0
"""posthouse certificate, dns --update and what check says: words, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posthouse.composing.certificates import key_file
from posthouse.config import ConfigError, parse
from posthouse.edges.cli.certificates import Why
from posthouse.net.certificate import self_signed_files
from posthouse.net.disk import PosixDisk
from posthouse.services.acme.words import REASONS
from posthouse.services.acme.x509 import challenge_certificate, key_digest, make_key, read_key
from posthouse.services.certificate_shelf import CertificateShelf, State
from posthouse.services.dns_records import Senders
from tests.fakes import FakeEntropy

from .conftest import Line

HOST = "mail.alice.test"
# Nobody is asked in these tests: http-01 needs the server.
WANTED = '[acme]\nagreed = true\ndirectory = "https://ca.invalid/dir"\n'
SOON = 4_000_000_000.0


def settle(line: Line, text: str) -> None:
    path = line.folder / "posthouse.toml"
    path.write_text(f'hostname = "{HOST}"\n{text}')


def serve(line: Line, *, state: State | None = None, seed: int = 1) -> str:
    """Put a certificate in its place; the digest of its key."""
    shelf = CertificateShelf(line.folder, PosixDisk(), lambda _: "")
    pem = challenge_certificate(HOST, "proof", SOON, FakeEntropy(seed))
    start = pem.index(b"-----BEGIN CERTIFICATE")
    key = read_key(pem[:start])
    shelf.install("main", key, pem[start:])
    shelf.keep_state("main", state or State(directory="https://ca.invalid/dir", installed_at=SOON))
    return key_digest(key)


def checked(line: Line) -> list[dict[str, str]]:
    """What `check` finds; its exit code is about other things here."""
    found: list[dict[str, str]] = json.loads(line.run("check", "--json").stdout)["findings"]
    return found


def test_nothing_is_wanted(line: Line) -> None:
    assert line.told("certificate", "list") == []
    assert "No certificate is wanted of an authority" in line.done("certificate", "list")
    assert "see [acme] in posthouse.toml" in line.refused("certificate", "renew")


def test_one_is_wanted(line: Line) -> None:
    settle(line, WANTED)
    [status] = line.told("certificate", "list")
    assert (status["name"], status["state"], status["names"]) == ("main", "waiting", [HOST])
    assert "the authority looks at the running server (http-01): start it first" in line.refused("certificate", "renew")
    assert "there is no certificate 'web'" in line.refused("certificate", "renew", "web")
    assert any("is not there yet" in each["text"] for each in checked(line))


def test_one_is_there(line: Line) -> None:
    settle(line, WANTED)
    digest = serve(line)
    [status] = line.told("certificate", "list")
    assert (status["state"], status["key_digest"], status["error"]) == ("good", digest, "")
    assert HOST in line.done("certificate", "list")
    texts = [each["text"] for each in checked(line)]
    assert any(each.startswith("certificate main of the authority: good until 2096-10-") for each in texts)
    assert any(each == f"certificates for {HOST}" for each in texts)
    zone = line.done("dns", "alice.test")
    assert f"_25._tcp.{HOST}. 3600 IN TLSA 3 1 1 {digest}" in zone


def test_the_next_key_is_shown_beside_the_present_one(line: Line) -> None:
    settle(line, WANTED)
    digest = serve(line)
    following = make_key("ec", FakeEntropy(9))
    CertificateShelf(line.folder, PosixDisk(), lambda _: "").keep_next_key("main", following)
    zone = line.done("dns", "alice.test")
    assert f"3 1 1 {digest}" in zone
    assert f"3 1 1 {key_digest(following)}" in zone
    assert "is served when DNS has shown it" in line.done("certificate", "list")
    assert any("its next key waits for DNS" in each["text"] for each in checked(line))


def test_one_that_cannot_be_renewed(line: Line) -> None:
    settle(line, WANTED)
    state = State(directory="https://ca.invalid/dir", failures=3, retry_at=SOON, error="no such name")
    serve(line, state=state)
    [status] = line.told("certificate", "list")
    assert (status["state"], status["error"], status["retry_at"]) == ("failing", "no such name", SOON)
    assert "main: no such name; tried again at 2096-10-02" in line.done("certificate", "list")
    assert any(
        each["text"].endswith("cannot be renewed and ends on 2096-10-09: no such name") for each in checked(line)
    )


def test_one_that_is_revoked(line: Line) -> None:
    settle(line, WANTED)
    assert "there is no certificate main yet" in line.refused("certificate", "revoke", "main")
    serve(line)
    refused = line.refused("certificate", "revoke", "main", "--reason", "key-compromise")
    assert "certificate main is not revoked: " in refused
    assert line.run("certificate", "revoke").exit_code == 2, "which one has to be said"
    assert line.run("certificate", "revoke", "main", "--reason", "whim").exit_code == 2
    assert {each.value for each in Why} == set(REASONS)
    shelf = CertificateShelf(line.folder, PosixDisk(), lambda _: "")
    served = shelf.served("main")
    assert served is not None
    shelf.keep_state("main", State(revoked=served.fingerprint, revoked_for="key-compromise"))
    [status] = line.told("certificate", "list")
    assert (status["state"], status["revoked_for"]) == ("revoked", "key-compromise")
    assert any(each["text"].endswith("is revoked (key-compromise), and still served") for each in checked(line))


def test_the_first_certificate_takes_the_key_of_the_one_by_hand(line: Line, tmp_path: Path) -> None:
    """So that TLSA records stay right when an authority takes over."""
    pem = challenge_certificate(HOST, "proof", SOON, FakeEntropy(5))
    start = pem.index(b"-----BEGIN CERTIFICATE")
    (tmp_path / "k.pem").write_bytes(pem[:start])
    (tmp_path / "c.pem").write_bytes(pem[start:])
    text = f'hostname = "{HOST}"\n[[tls.certificates]]\ncertificate = "{tmp_path}/c.pem"\nkey = "{tmp_path}/k.pem"\n'
    settings = parse(text.encode(), "test")
    own = self_signed_files(line.folder).key
    assert key_file(line.folder, settings) == tmp_path / "k.pem"
    assert key_file(line.folder, parse(text.replace(HOST, "other.test", 1).encode(), "test")) == own
    (tmp_path / "c.pem").write_bytes(b"nonsense")
    assert key_file(line.folder, settings) == own


def test_dns_update_needs_a_server(line: Line) -> None:
    assert "see [dns_update] in posthouse.toml" in line.refused("dns", "alice.test", "--update")
    assert line.run("dns", "alice.test", "--dry-run").exit_code == 2


def test_dns_update_that_fails(line: Line) -> None:
    settle(line, '[dns_update]\nserver = "127.0.0.1:1"\n')
    result = line.run("dns", "alice.test", "--update")
    assert result.exit_code == 1
    assert "failed     alice.test. MX 10 mail.alice.test.\n           -> 127.0.0.1: no usable answer" in result.stdout


def test_dns_update_leaves_the_policy_alone_while_dns_is_silent(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else sends for the domain is not known, and their mail would be lost."""

    async def silent(*_: object) -> Senders:
        return Senders(is_known=False)

    monkeypatch.setattr("posthouse.services.checkup.other_senders", silent)
    settle(line, '[dns_update]\nserver = "127.0.0.1:1"\n')
    told = json.loads(line.run("dns", "alice.test", "--update", "--json").stdout)
    steps = {step["name"]: step for step in told["steps"]}
    assert steps["_dmarc.alice.test"]["action"] == "kept"
    assert steps["_dmarc.alice.test"]["note"].startswith("DNS does not say who else sends for the domain")
    assert steps["_smtp._tls.alice.test"]["action"] == "failed"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[acme]\neab_key_id = "x"\n', "acme: acme.eab_key_file: missing"),
        ('[acme]\neab_key_id = "x"\neab_key_file = "/nowhere/x"\n', "acme: /nowhere/x: cannot be read"),
        ('[acme]\nca_file = "/nowhere/x"\n', "acme.ca_file: /nowhere/x: cannot be read"),
        ('[acme]\nagreed = true\nnames = ["*.alice.test"]\n', "a wildcard needs challenge"),
        ('[acme]\nagreed = true\nchallenge = "dns-01"\n', "certificate main: dns-01 needs [dns_update]"),
        ('[acme]\ndirectory = "http://ca.test/"\n', "acme.directory"),
        ('[acme.certificates.main]\nnames = ["a.test"]\n', "the first one is called main"),
        ('[acme.certificates."a/b"]\nnames = ["a.test"]\n', "name it with up to 40"),
        ("[acme.certificates.web]\nnames = []\n", "acme.certificates.web.names"),
        ('[acme]\nnames = ["a b"]\n', "acme.names"),
        ('[acme]\ncontact = ["a@b.test?x=y"]\n', "acme.contact"),
        ('[dns_update]\nserver = "ns.test"\n', "dns_update: 'ns.test' is not an IP address"),
        ('[dns_update]\nserver = "127.0.0.1"\nkey_name = "k"\n', "dns_update.key_file: missing"),
        ('[dns_update]\nshow = ["x"]\n', "dns_update.show: 'x' is not an IP address"),
    ],
)
def test_settings_that_cannot_be(line: Line, text: str, problem: str) -> None:
    settle(line, text)
    try:
        told = line.refused("certificate", "list")
    except ConfigError as error:
        told = str(error)
    assert problem in told


def test_a_certificate_by_hand(line: Line, tmp_path: Path) -> None:
    pem = challenge_certificate("*.alice.test", "proof", SOON, FakeEntropy())
    start = pem.index(b"-----BEGIN CERTIFICATE")
    (tmp_path / "k.pem").write_bytes(pem[:start])
    (tmp_path / "c.pem").write_bytes(pem[start:])
    files = f'[[tls.certificates]]\ncertificate = "{tmp_path}/c.pem"\nkey = "{tmp_path}/k.pem"\n'
    settle(line, WANTED + files)
    [status] = line.told("certificate", "list")
    assert status["state"] == "by hand"
    assert any("is not asked for: tls.certificates has one" in each["text"] for each in checked(line))
