# SPDX-License-Identifier: Apache-2.0
"""A small world's DNS on loopback: zones, signed or not, served by BIND, and an unbound that validates them.

Invariant: every question is answered here. A name in no zone does not exist, so no test asks the world; what BIND
serves with signatures that hold comes with the AD bit, what it serves with expired ones is SERVFAIL.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .programs import free_port, require, run, stop, wait_until

DNS_PORT = 53
TXT_STRING = 255  # octets, RFC 1035 §3.3
TTL = 300
ALGORITHM = "ECDSAP256SHA256"
# RFC 4034 §3.1.5: signatures of a month that is over.
EXPIRED = ("-s", "20200101000000", "-e", "20200201000000")

NAMED = """\
options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    pid-file "{folder}/named.pid";
    session-keyfile none;
    empty-zones-enable no;
    minimal-responses yes;
}};
controls {{ }};
{zones}
"""
UNBOUND = """\
server:
    interface: {address}@{port}
    access-control: 127.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    do-daemonize: no
    use-syslog: no
    logfile: ""
    num-threads: 1
    do-not-query-localhost: no
    module-config: "validator iterator"
    val-log-level: 2
    infra-keep-probing: yes
    local-zone: "." static
    local-data: ". 300 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 300"
{anchors}
{zones}
remote-control:
    control-enable: no
"""
HEAD = "$TTL {ttl}\n@ IN SOA ns hostmaster {serial} 3600 600 86400 {ttl}\n@ IN NS ns\nns IN A 127.0.0.1\n"
# A name server that refuses every question: unbound itself, to whom only those who want recursion may speak.
LAME = "lame IN A {address}\n"


class Signing(Enum):
    NONE = auto()
    GOOD = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class Zone:
    """`records`: lines of a zone file, without SOA and NS; `lame` in each zone is a name server that answers nothing.
    `name`: without the final dot."""

    name: str
    records: Sequence[str]
    signing: Signing = Signing.NONE


class Dns:
    """`server`: "address:port", as [resolver] and DnsResolver want it."""

    def __init__(self, folder: Path, *zones: Zone) -> None:
        require("named", "dnssec-keygen", "dnssec-signzone", "unbound")
        self.folder = folder
        self._zones = {zone.name: zone for zone in zones}
        self._serial = 0
        # Libraries that read resolv.conf know this port alone, and only root may have it.
        self._port = DNS_PORT if os.geteuid() == 0 else free_port()
        self.address = free_address(self._port)
        self.server = f"{self.address}:{self._port}"
        self._bind_port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        anchors = [f'    trust-anchor: "{self._make_keys(zone)}"' for zone in self._signed()]
        self._write_zones()
        served = [f'zone "{name}" {{ type primary; file "{name}.served"; }};' for name in self._zones]
        (self.folder / "named.conf").write_text(
            NAMED.format(folder=self.folder, port=self._bind_port, zones="\n".join(served))
        )
        # Zones of this world are asked for at BIND's; unbound's own word is that .test is empty.
        passed = [f'    local-zone: "{name}." transparent' for name in self._zones]
        stubs = [f'stub-zone:\n    name: "{name}."\n    stub-addr: 127.0.0.1@{self._bind_port}' for name in self._zones]
        (self.folder / "unbound.conf").write_text(
            UNBOUND.format(
                folder=self.folder,
                address=self.address,
                port=self._port,
                anchors="\n".join(anchors),
                zones="\n".join([*passed, *stubs]),
            )
        )
        (self.folder / "resolv.conf").write_text(f"nameserver {self.address}\noptions edns0 trust-ad\n")
        self._run("named", "-g", "-n", "1", "-c", str(self.folder / "named.conf"))
        self._run("unbound", "-d", "-c", str(self.folder / "unbound.conf"))
        self._await()

    def stop(self) -> None:
        for process in reversed(self._processes):
            stop(process)
        self._processes.clear()

    def publish(self, changed: Mapping[str, Sequence[str]]) -> None:
        """The zones, by name, have these records from now on, and nobody remembers others."""
        for name, records in changed.items():
            self._zones[name] = dataclasses.replace(self._zones[name], records=records)
        self._write_zones()
        named, unbound = self._processes
        named.send_signal(signal.SIGHUP)
        # BIND has no word for it when it is done: unbound forgets only what BIND no longer says.
        self._await_at_bind(self._zones)
        unbound.send_signal(signal.SIGHUP)
        self._await()

    def within(self, *command: str | Path) -> list[str | Path]:
        """The command in a mount namespace where /etc/resolv.conf names this DNS: for libraries that take no other
        word. Only as root."""
        require("unshare")
        assert self._port == DNS_PORT, "resolv.conf knows no other port"
        start = f'mount --bind {self.folder}/resolv.conf /etc/resolv.conf; exec "$0" "$@"'
        return ["unshare", "--mount", "sh", "-ec", start, *command]

    def log(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*.log")))

    # --- inside -----------------------------------------------------------------------------------

    def _signed(self) -> list[Zone]:
        return [zone for zone in self._zones.values() if zone.signing is not Signing.NONE]

    def _make_keys(self, zone: Zone) -> str:
        """The zone's trust anchor: the public key that signs its keys."""
        keys = self.folder / f"{zone.name}.keys"
        keys.mkdir()
        run(["dnssec-keygen", "-q", "-K", keys, "-a", ALGORITHM, zone.name])
        name = run(["dnssec-keygen", "-q", "-K", keys, "-a", ALGORITHM, "-f", "KSK", zone.name]).split()[-1]
        lines = (keys / f"{name}.key").read_text().splitlines()
        return next(line for line in lines if line and not line.startswith(";"))

    def _write_zones(self) -> None:
        self._serial += 1
        for zone in self._zones.values():
            head = HEAD.format(ttl=TTL, serial=self._serial) + LAME.format(address=self.address)
            text = head + "\n".join(zone.records) + "\n"
            plain, served = self.folder / f"{zone.name}.plain", self.folder / f"{zone.name}.served"
            plain.write_text(text)
            if zone.signing is Signing.NONE:
                served.write_text(text)
                continue
            times = EXPIRED if zone.signing is Signing.EXPIRED else ()
            keys = self.folder / f"{zone.name}.keys"
            # -P: no check afterwards, which would find the expired signatures.
            command = [
                "dnssec-signzone",
                "-q",
                "-S",
                "-P",
                *times,
                "-K",
                keys,
                "-d",
                keys,
                "-o",
                zone.name,
                "-f",
                served,
                plain,
            ]
            run(command)

    def _run(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _await(self) -> None:
        """Until both know the zones as they are now; an expired one is never told by unbound."""
        self._await_at_bind(self._zones)
        for zone in self._zones.values():
            if zone.signing is not Signing.EXPIRED:
                self._await_serial(self.address, self._port, zone.name)

    def _await_at_bind(self, names: Iterable[str]) -> None:
        for name in names:
            self._await_serial("127.0.0.1", self._bind_port, name)

    def _await_serial(self, host: str, port: int, name: str) -> None:
        wait_until(
            lambda: self._serial_at(host, port, name) == self._serial,
            f"DNS of {name} at {host}:{port}",
            log=self.folder / "named.log",
        )

    def _serial_at(self, host: str, port: int, name: str) -> int:
        """0 without an answer."""
        question = dns.message.make_query(name, "SOA")
        try:
            answer = dns.query.udp(question, host, 2, port)
        except (OSError, dns.exception.DNSException):
            return 0
        found = answer.get_rrset(answer.answer, question.question[0].name, dns.rdataclass.IN, dns.rdatatype.SOA)
        return int(found[0].serial) if found else 0


def txt(name: str, text: str) -> str:
    """A TXT record for a zone file, in as many strings as it needs."""
    strings = [text[at : at + TXT_STRING] for at in range(0, len(text), TXT_STRING)] or [""]
    return f"{name} IN TXT " + " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in strings)


def tlsa(certificate: Path) -> str:
    """Data of a TLSA record that says "this key" (3 1 1, RFC 7671 §5.1)."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"3 1 1 {hashlib.sha256(key).hexdigest()}"


def dkim_record(public: bytes, kind: str = "rsa") -> str:
    """RFC 6376 §3.6.1: of DER for RSA, of the 32 octets for Ed25519."""
    return f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode()}"


def free_address(port: int) -> str:
    """A loopback address of which nobody has the port."""
    while True:
        address = f"127.{random.randint(64, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return address
