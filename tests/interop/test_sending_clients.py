# SPDX-License-Identifier: Apache-2.0
"""Programs that people send with: each logs in, checks our certificate, and its letter arrives octet for octet."""

from __future__ import annotations

import email
import email.policy
import smtplib
import ssl
from pathlib import Path

import pytest

from .house import ALICE, BOB, PASSWORD, House
from .letters import ATTACHMENT, BODY, assert_carries, field, letter
from .programs import PATIENCE, require, run

pytestmark = pytest.mark.interop

TLS = ["starttls", "implicit"]


def port(house: House, tls: str) -> int:
    return house.ports["submissions" if tls == "implicit" else "submission"]


def arrived(house: House, sent: bytes, *, tls: str = "starttls") -> None:
    """Bob has it, with nothing changed but what we put before it."""
    [found] = house.take(BOB)
    assert_carries(found, sent)
    assert field(found, "Return-Path") == f"<{ALICE}>"
    assert "with ESMTPSA (TLS" in field(found, "Received"), tls


# --- swaks ----------------------------------------------------------------------------------------


def swaks(house: House, tls: str, *words: str, codes: tuple[int, ...] = (0,)) -> str:
    require("swaks")
    secure = ["--tls-on-connect"] if tls == "implicit" else ["--tls"]
    server = ["--server", f"localhost:{port(house, tls)}", "--tls-verify", "--tls-ca-path", str(house.certificate)]
    return run(["swaks", *server, *secure, "--from", ALICE, "--to", BOB, *words], codes=codes)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", TLS)
def test_swaks(house: House, tmp_path: Path, mechanism: str, tls: str) -> None:
    sent = letter("swaks", ALICE, BOB)
    (tmp_path / "letter").write_bytes(sent.removesuffix(b"\r\n"))  # it ends every file with a line end
    login = ["--auth", mechanism, "--auth-user", ALICE, "--auth-password", PASSWORD]
    swaks(house, tls, *login, "--data", f"@{tmp_path / 'letter'}")
    arrived(house, sent, tls=tls)


def test_swaks_is_told_why_it_may_not_send(house: House) -> None:
    """Wrong password, no password, another's address: a reply for each, and no letter."""
    login = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password"]
    assert "535 5.7.8" in swaks(house, "starttls", *login, "wrong", codes=(28,))
    assert "530 5.7.0" in swaks(house, "implicit", codes=(23,))
    assert "5.7.1" in swaks(house, "implicit", *login, PASSWORD, "--from", "carol@house.test", codes=(23, 24, 26))
    assert "5.1.1" in swaks(house, "implicit", *login, PASSWORD, "--to", "nobody@house.test", codes=(24,))
    assert house.letters(BOB) == []


def test_swaks_finds_no_password_prompt_without_tls(house: House) -> None:
    """No AUTH is offered where a password would be seen by others."""
    require("swaks")
    said = run(["swaks", "--server", f"localhost:{house.ports['submission']}", "--to", BOB, "--quit-after", "EHLO"])
    assert "STARTTLS" in said
    assert "AUTH" not in said


# --- curl -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", TLS)
def test_curl(house: House, tmp_path: Path, mechanism: str, tls: str) -> None:
    """With a 5 MiB attachment, and --mail-auth (the AUTH parameter of MAIL, RFC 4954 §5)."""
    require("curl")
    sent = letter("curl", ALICE, BOB, attachment=ATTACHMENT)
    (tmp_path / "letter").write_bytes(sent)
    scheme = "smtps" if tls == "implicit" else "smtp"
    run(
        [
            *("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", house.certificate),
            *("--user", f"{ALICE}:{PASSWORD}", "--login-options", f"AUTH={mechanism}"),
            *("--mail-from", ALICE, "--mail-rcpt", BOB, "--mail-auth", ALICE),
            *("--upload-file", tmp_path / "letter", f"{scheme}://localhost:{port(house, tls)}/client.test"),
        ]
    )
    arrived(house, sent, tls=tls)


# --- msmtp ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("tls", TLS)
def test_msmtp(house: House, tmp_path: Path, mechanism: str, tls: str) -> None:
    require("msmtp")
    config = tmp_path / "msmtprc"
    config.write_text(
        f"account default\nhost localhost\nport {port(house, tls)}\nfrom {ALICE}\nauth {mechanism}\nuser {ALICE}\n"
        f'password "{PASSWORD}"\ntls on\ntls_starttls {"off" if tls == "implicit" else "on"}\n'
        f"tls_trust_file {house.certificate}\n"
    )
    config.chmod(0o600)
    sent = letter("msmtp", ALICE, BOB, attachment=ATTACHMENT)
    run(["msmtp", "--file", config, BOB], stdin=sent.replace(b"\r\n", b"\n"))
    arrived(house, sent, tls=tls)


# --- mutt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("tls", TLS)
def test_mutt(house: House, tmp_path: Path, mechanism: str, tls: str) -> None:
    """It writes the letter itself: text and attachment come out as they went in."""
    require("mutt")
    scheme = "smtps" if tls == "implicit" else "smtp"
    config = tmp_path / "muttrc"
    config.write_text(
        f'set from = "{ALICE}"\nset realname = "Alice 爱丽丝"\nset smtp_pass = "{PASSWORD}"\n'
        f'set smtp_url = "{scheme}://{ALICE}@localhost:{port(house, tls)}/"\nset ssl_force_tls = yes\n'
        f'set smtp_authenticators = "{mechanism}"\nset certificate_file = "{house.certificate}"\n'
        f'set ssl_ca_certificates_file = "{house.certificate}"\nset ssl_verify_dates = yes\nset charset = "utf-8"\n'
        'set send_charset = "utf-8"\nset allow_8bit = yes\nset use_envelope_from = yes\nset copy = no\n'
    )
    file = tmp_path / "data.bin"
    file.write_bytes(bytes(range(256)) * 64)
    text = BODY.replace("ü" * 499 + "\r\n", "").replace("\r\n", "\n")
    run(
        ["mutt", "-F", config, "-s", "驿站 mutt", "-a", file, "--", BOB],
        stdin=text.encode(),
        env={"HOME": str(tmp_path)},
    )
    [found] = house.take(BOB)
    parsed = email.message_from_bytes(found, policy=email.policy.default)
    assert parsed["Subject"] == "驿站 mutt"
    first, second = parsed.iter_parts()
    assert first.get_content().replace("\r\n", "\n") == text
    assert second.get_content() == file.read_bytes()


# --- Python's smtplib -----------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", TLS)
def test_smtplib(house: House, mechanism: str, tls: str) -> None:
    context = ssl.create_default_context(cafile=str(house.certificate))
    smtp: smtplib.SMTP
    if tls == "implicit":
        smtp = smtplib.SMTP_SSL("localhost", port(house, tls), context=context, timeout=PATIENCE)
    else:
        smtp = smtplib.SMTP("localhost", port(house, tls), timeout=PATIENCE)
        smtp.starttls(context=context)
    with smtp:
        smtp.ehlo()
        smtp.user, smtp.password = ALICE, PASSWORD
        how = smtp.auth_plain if mechanism == "PLAIN" else smtp.auth_login
        assert smtp.auth(mechanism, how)[0] == 235
        sent = letter("smtplib", ALICE, BOB, attachment=ATTACHMENT)
        assert smtp.sendmail(ALICE, [BOB], sent, mail_options=["BODY=8BITMIME"]) == {}
    arrived(house, sent, tls=tls)


def test_smtplib_over_lmtp(house: House) -> None:
    """One reply for each recipient; the letter is there for the one that exists."""
    sent = letter("lmtp", "zoe@elsewhere.test", BOB)
    with smtplib.LMTP("localhost", house.ports["lmtp"]) as lmtp:
        refused = lmtp.sendmail("zoe@elsewhere.test", [BOB, "nobody@house.test"], sent)
    assert list(refused) == ["nobody@house.test"]
    [found] = house.take(BOB)
    assert_carries(found, sent)
