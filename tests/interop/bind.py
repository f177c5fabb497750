# SPDX-License-Identifier: Apache-2.0
"""BIND as the primary server of a zone, which takes updates with a TSIG key. On a loopback port."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import pytest

from .programs import found, free_port, require, wait_until

KEY_NAME = "posthouse-key"


class Bind:
    """`records`: lines of the zone file beside SOA and NS."""

    def __init__(self, folder: Path, zone: str, records: str = "") -> None:
        require("named", "nsupdate")
        if os.geteuid() == 0:
            self._user: list[str] = ["-u", "root"]  # its own user may not write to the folder of a test
        else:
            self._user = []
        folder.mkdir(parents=True)
        self.folder = folder
        self.zone = zone
        self.port = free_port()
        self.log = folder / "named.log"
        self.key_file = folder / "secret"
        self._process: subprocess.Popen[bytes] | None = None
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self.key_file.write_text(secret + "\n")
        (folder / "zone.db").write_text(
            f"$TTL 300\n@ IN SOA ns.{zone}. root.{zone}. 1 3600 600 86400 60\n"
            f"@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n{records}\n"
        )
        (folder / "named.conf").write_text(
            f'key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{secret}"; }};\n'
            f'options {{ directory "{folder}"; listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n'
            f' pid-file none; recursion no; notify no; session-keyfile "{folder}/session.key"; }};\n'
            "controls { };\n"
            f'zone "{zone}" {{ type primary; file "zone.db"; allow-update {{ key "{KEY_NAME}"; }}; }};\n'
        )

    @property
    def settings(self) -> str:
        """Lines of posthouse.toml."""
        return (
            f'[dns_update]\nserver = "127.0.0.1:{self.port}"\nkey_name = "{KEY_NAME}"\nkey_file = "{self.key_file}"\n'
            f'show = ["127.0.0.1:{self.port}"]\n'
        )

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(found("named")), "-g", "-c", str(self.folder / "named.conf"), *self._user],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, "named to answer", log=self.log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def values(self, name: str, kind: str) -> list[str]:
        """What the zone has, in presentation form, sorted."""
        query = dns.message.make_query(name, kind)
        reply = dns.query.tcp(query, "127.0.0.1", 5, self.port)
        wanted = dns.rdatatype.from_text(kind)
        return sorted(record.to_text() for rrset in reply.answer if rrset.rdtype == wanted for record in rrset)

    def change(self, *lines: str) -> None:
        """As the zone's owner does with his own tools."""
        script = f"server 127.0.0.1 {self.port}\nkey hmac-sha256:{KEY_NAME} {self.key_file.read_text().strip()}\n"
        script += "\n".join([f"zone {self.zone}", *lines, "send", ""])
        done = subprocess.run(
            [str(found("nsupdate"))], check=False, input=script.encode(), capture_output=True, timeout=30
        )
        if done.returncode:
            pytest.fail(f"nsupdate: {done.stderr.decode()}")

    def _answers(self) -> bool:
        try:
            return bool(self.values(f"ns.{self.zone}", "A"))
        except (OSError, EOFError, dns.exception.DNSException):
            return False
