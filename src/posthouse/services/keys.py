# SPDX-License-Identifier: Apache-2.0
"""DKIM keys of the domains: made when a domain is added, asked for by who signs, shown as DNS records.

A domain gets an RSA key (which everybody verifies) and an Ed25519 key (RFC 8463, short and fast).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posthouse.ports import Change, ChangeBus, Database, Entropy, Workers
from posthouse.services.bounded import Bounded
from posthouse.services.directory import TOPIC
from posthouse.store import keys
from posthouse.store.keys import Algorithm, DkimKey, KeyState, NewKey
from posthouse.store.sealing import NONCE_OCTETS, SealBroken, SecretKey
from posthouse.telemetry import logger

RSA_BITS = 2048  # RFC 8301 §3.2 asks signers for at least this; longer keys do not fit into a DNS answer over UDP
MAX_CACHED_DOMAINS = 1000  # about 3 KB each


def make_rsa() -> RSAPrivateKey:
    """Some 100 ms of work. Its chance comes from the library, which takes none from outside."""
    return generate_private_key(public_exponent=65537, key_size=RSA_BITS)


class DomainKeys:
    def __init__(
        self,
        database: Database,
        bus: ChangeBus,
        workers: Workers,
        entropy: Entropy,
        key: SecretKey,
        *,
        algorithms: Sequence[Algorithm] = ("rsa", "ed25519"),
        rsa: Callable[[], RSAPrivateKey] = make_rsa,
    ) -> None:
        """`rsa`: how an RSA key is made; a simulation gives one that is always the same."""
        self._database = database
        self._workers = workers
        self._entropy = entropy
        self._key = key
        self._algorithms = tuple(algorithms)
        self._rsa = rsa
        self._log = logger("keys")
        self._cache: Bounded[str, tuple[DkimKey, ...]] = Bounded(MAX_CACHED_DOMAINS)
        self._changes = 0
        self._unsubscribe = bus.subscribe(TOPIC, 0, self._forget)

    def close(self) -> None:
        self._unsubscribe()

    async def make(self, now: float, *, taken: Collection[str] = (), prefix: str = "ph") -> list[NewKey]:
        """New keys, one per algorithm, to be stored with `store.keys.add_key`. `now` names their selectors, which are
        none of those `taken`."""
        month = datetime.fromtimestamp(now, UTC).strftime("%Y%m")
        made = []
        for algorithm in self._algorithms:
            selector, nonce = _selector(f"{prefix}{month}", algorithm, taken), self._entropy.octets(NONCE_OCTETS)
            if algorithm == "rsa":
                private, public = await self._workers.run(self._make_rsa, pool="hash")
            else:
                private, public = _make_ed25519(self._entropy.octets(32))
            made.append(NewKey(selector, algorithm, private, public, nonce))
        return made

    async def active(self, domain: str) -> tuple[DkimKey, ...]:
        """The keys that sign for a domain (A-labels, lower case); none for a domain that is not here. One that does not
        open (another key file lies beside the database) is left out: letters leave, signed by the others."""
        known = self._cache.get(domain)
        if known is None:
            changes = self._changes
            known = await self._database.read(
                lambda reader: tuple(
                    keys.list_keys(reader, self._key, domain, only_active=True, on_broken=self._tell_broken)
                )
            )
            if changes == self._changes:
                self._cache.put(domain, known)
        return known

    async def records(self, domain: str) -> list[tuple[str, str]]:
        """(name, value) of the TXT records that publish a domain's keys (or the host's own, by its name): of those that
        sign, will sign, or have signed lately."""
        found = await self._database.read(lambda reader: keys.infos(reader, domain))
        return [(each.record_name, each.record) for each in found if each.state is not KeyState.WITHDRAWN]

    def _tell_broken(self, broken: SealBroken) -> None:
        self._log.error("key not usable", reason=str(broken))

    def _make_rsa(self) -> tuple[bytes, str]:
        key = self._rsa()
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        # RFC 6376 §3.6.1 with erratum 3017: SubjectPublicKeyInfo is what everybody publishes and reads.
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return private, b64encode(public).decode()

    def _forget(self, _change: Change) -> None:
        self._changes += 1
        self._cache.clear()


def _selector(start: str, algorithm: Algorithm, taken: Collection[str]) -> str:
    """`ph202611-rsa`, and where the month has one already `ph202611-2-rsa`."""
    selector, number = f"{start}-{algorithm}", 1
    while selector in taken:
        number += 1
        selector = f"{start}-{number}-{algorithm}"
    return selector


def _make_ed25519(seed: bytes) -> tuple[bytes, str]:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # RFC 8463 §4: the bare 32 octets
    return private, b64encode(public).decode()
