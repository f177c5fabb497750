# SPDX-License-Identifier: Apache-2.0
"""The web and the records met by other people's programs: curl, openssl, BIND's zone checker."""

from __future__ import annotations

import json
import plistlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.net.test_served import issue

from .house import ALICE, DOMAIN, House
from .programs import accepts, free_port, require, run, wait_until

pytestmark = pytest.mark.interop

NAMES = ("localhost", f"mta-sts.{DOMAIN}", f"autoconfig.{DOMAIN}", f"autodiscover.{DOMAIN}")


@pytest.fixture(scope="module")
def web(base: Path) -> Iterator[tuple[House, int, int, Path]]:
    """A house with a certificate of an authority, its ports for http and https, and what to trust."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    files = issue(base / "authority", rsa.generate_private_key(65537, 2048), *NAMES)
    authority = base / "authority" / "authority.pem"
    marker = b"-----END CERTIFICATE-----\n"
    authority.write_bytes(files.certificate.read_bytes().split(marker)[1] + marker)
    http, https = free_port(), free_port()
    more = f'[[tls.certificates]]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\n'
    house = House(base / "web-house", settings=more)
    path = house.folder / "posthouse.toml"
    listen = f'[listen]\nhttp = ["127.0.0.1:{http}"]\nhttps = ["127.0.0.1:{https}"]\n'
    path.write_text(path.read_text().replace("[listen]\n", listen))
    house.start()
    wait_until(lambda: accepts(https), "https", log=house.log)
    yield house, http, https, authority
    house.stop()


def curl(web: tuple[House, int, int, Path], url: str, *words: str | Path) -> str:
    """As if the names were in DNS and the ports the usual ones."""
    _, http, https, authority = web
    return run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--cacert", authority),
            *("--connect-to", f"::127.0.0.1:{https}" if url.startswith("https") else f"::127.0.0.1:{http}"),
            *(*words, url),
        ]
    )


def test_curl_fetches_the_policy(web: tuple[House, int, int, Path]) -> None:
    require("curl")
    url = f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt"
    said = curl(web, url, "--include")
    assert said.startswith("HTTP/1.1 200")
    assert re.search(r"(?mi)^content-type: text/plain", said)
    assert re.search(r"(?mi)^date: ", said)
    assert said.replace("\r", "").endswith("version: STSv1\nmode: testing\nmx: localhost\nmax_age: 1209600\n")


def test_curl_is_led_to_https(web: tuple[House, int, int, Path]) -> None:
    require("curl")
    said = curl(web, f"http://autoconfig.{DOMAIN}/mail/config-v1.1.xml?emailaddress={ALICE}", "--head")
    port = web[2]
    assert f"location: https://autoconfig.{DOMAIN}:{port}/mail/config-v1.1.xml?emailaddress={ALICE}" in said


def test_curl_fetches_settings(web: tuple[House, int, int, Path]) -> None:
    require("curl")
    root = ElementTree.fromstring(curl(web, f"https://autoconfig.{DOMAIN}/mail/config-v1.1.xml"))
    ports = web[0].ports
    assert [server.findtext("port") for server in root.iter("outgoingServer")] == [
        str(ports["submissions"]),
        str(ports["submission"]),
    ]
    body = f"<Autodiscover><Request><EMailAddress>{ALICE}</EMailAddress></Request></Autodiscover>"
    found = curl(web, f"https://autodiscover.{DOMAIN}/Autodiscover/Autodiscover.xml", "--data", body)
    assert f"<LoginName>{ALICE}</LoginName>" in found
    told = curl(web, f"https://localhost/autodiscover/autodiscover.json?Email={ALICE}&Protocol=AutodiscoverV1")
    assert json.loads(told)["Protocol"] == "AutodiscoverV1"


def test_openssl_verifies_the_profile(web: tuple[House, int, int, Path], tmp_path: Path) -> None:
    require("curl", "openssl")
    signed, plain = tmp_path / "signed", tmp_path / "plain"
    curl(web, f"https://localhost/profile.mobileconfig?emailaddress={ALICE}", "--output", signed)
    said = run(
        [
            *("openssl", "cms", "-verify", "-inform", "DER", "-in", signed, "-CAfile", web[3]),
            *("-purpose", "any", "-out", plain),
        ]
    )
    assert "successful" in said.lower()
    assert plistlib.loads(plain.read_bytes())["PayloadContent"][0]["EmailAddress"] == ALICE


def test_openssl_meets_tls_by_name_and_no_old_one(web: tuple[House, int, int, Path]) -> None:
    require("openssl")
    where = ["openssl", "s_client", "-connect", f"127.0.0.1:{web[2]}", "-CAfile", web[3]]
    said = run([*where, "-servername", NAMES[1], "-verify_hostname", NAMES[1], "-verify_return_error"])
    assert "Verify return code: 0 (ok)" in said
    run([*where, "-tls1_1"], codes=(1,))


def test_bind_takes_the_zone(web: tuple[House, int, int, Path], tmp_path: Path) -> None:
    require("named-checkzone")
    zone = web[0].command("dns", DOMAIN)
    assert "3 1 1 " in zone
    file = tmp_path / "zone"
    file.write_text(
        f"$TTL 3600\n{DOMAIN}. IN SOA ns.{DOMAIN}. root.{DOMAIN}. 1 3600 600 86400 3600\n"
        f"{DOMAIN}. IN NS ns.{DOMAIN}.\nns.{DOMAIN}. IN A 192.0.2.53\n{zone}"
    )
    compiled = tmp_path / "compiled"
    said = run(["named-checkzone", "-D", "-o", compiled, DOMAIN, file])
    assert said.rstrip().endswith("OK")
    text = compiled.read_text()
    for name, kind in (("_mta-sts", "TXT"), ("mta-sts", "CNAME"), ("_smtp._tls", "TXT"), ("_imaps._tcp", "SRV")):
        assert re.search(rf"(?m)^{re.escape(name)}\.{re.escape(DOMAIN)}\.\s.*\b{kind}\b", text), name


def test_a_slow_stranger_is_dropped(web: tuple[House, int, int, Path]) -> None:
    """Nothing is said: the server ends it by itself, within a minute."""
    with socket.create_connection(("127.0.0.1", web[1]), 60) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        assert sock.recv(100) == b""


def test_check_names_every_record(web: tuple[House, int, int, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", "check", DOMAIN, "--json", "--data", str(web[0].folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1  # house.test is not in DNS
    told = "\n".join(each["text"] for each in json.loads(done.stdout)["findings"])
    for words in ("MX", "TXT", "SRV _imaps._tcp", "CNAME mta-sts", "TXT _smtp._tls"):
        assert words in told
