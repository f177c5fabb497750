# SPDX-License-Identifier: Apache-2.0
"""What is kept of certificates on disk: DIR/acme, readable by the server's user alone.

    account.pem          the account's key, one for all authorities
    accounts.json        its URL at each authority
    NAME/served.pem      the key and the chain that are served, in one file: they cannot part
    NAME/next.pem        the key that follows it, or that the first certificate is waiting for
    NAME/state.json      how the order, the renewal and the rollover stand

Invariant: every file is replaced as a whole and durable before the next step is taken, so that a crash between any two
steps leaves the old certificate or the new one, and never a key that nobody has. Keys lie here as tls/self-signed.key
does: the secret that could seal them lies beside them, and the library that serves them reads files.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from posthouse.ports import Disk, StoreFault
from posthouse.services.acme.jws import AccountKey
from posthouse.services.acme.renewal import Window
from posthouse.services.acme.words import AcmeFault, Reason
from posthouse.services.acme.x509 import LeafFacts, ServerKey, key_digest, key_pem, leaf_der, read_key, read_leaf
from posthouse.store.faults import disk_fault

T = TypeVar("T")

FOLDER = "acme"
SERVED = "served.pem"
NEXT = "next.pem"
STATE = "state.json"
ACCOUNT_KEY = "account.pem"
ACCOUNTS = "accounts.json"
BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class Account(msgspec.Struct):
    """At one authority. `key_id`: of the external binding that it was made with."""

    url: str
    contact: list[str] = []
    key_id: str = ""


class State(msgspec.Struct):
    """Times are seconds since the epoch, 0 for never. What follows `directory` is about the certificate served."""

    order_url: str = ""
    order_names: list[str] = []
    order_uses_next: bool = False
    failures: int = 0  # in a row
    retry_at: float = 0.0
    error: str = ""
    directory: str = ""  # the authority that it came from
    installed_at: float = 0.0
    renewals: int = 0  # with the same key
    window: Window | None = None
    chance: float = 0.0
    ask_at: float = 0.0  # for renewal information, again
    next_made_at: float = 0.0
    next_shown_at: float = 0.0  # since when every name server shows the next key's record
    next_ttl: float = 0.0  # the longest that a resolver may still go without it
    is_rollover_asked: bool = False
    revoked: str = ""  # the fingerprint of the certificate that the authority has revoked for us
    revoked_for: Reason = "unspecified"


@dataclass(frozen=True, slots=True)
class Served:
    """A certificate with its key."""

    facts: LeafFacts
    key: ServerKey
    certificate: bytes  # DER

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.certificate).hexdigest()


class CertificateShelf:
    """Blocks while it reads and writes. Raises StoreFault."""

    def __init__(self, folder: Path, disk: Disk, trial: Callable[[Path], str]) -> None:
        """`folder`: the data directory. `trial`: why a file cannot be served, "" for one that can."""
        self._folder = folder / FOLDER
        self._disk = disk
        self._trial = trial

    def state(self, name: str) -> State:
        return self._decode(self._folder / name / STATE, State) or State()

    def keep_state(self, name: str, state: State) -> None:
        self._replace(self._folder / name / STATE, msgspec.json.format(msgspec.json.encode(state)))

    def served(self, name: str) -> Served | None:
        """None where there is none yet, or what is there cannot be used."""
        octets = self._read(self._folder / name / SERVED)
        if octets is None:
            return None
        start = max(octets.find(BEGIN_CERTIFICATE), 0)
        try:
            found = Served(read_leaf(octets[start:]), read_key(octets[:start]), leaf_der(octets[start:]))
        except ValueError:
            return None
        return found if found.facts.key_digest == key_digest(found.key) else None

    def install(self, name: str, key: ServerKey, chain: bytes) -> None:
        """Raises AcmeFault for what cannot be served; then nothing is changed."""
        self._replace(self._folder / name / SERVED, key_pem(key) + chain, self._trial)

    def next_key(self, name: str) -> ServerKey | None:
        octets = self._read(self._folder / name / NEXT)
        try:
            return None if octets is None else read_key(octets)
        except ValueError:
            return None

    def keep_next_key(self, name: str, key: ServerKey) -> None:
        self._replace(self._folder / name / NEXT, key_pem(key))

    def drop_next_key(self, name: str) -> None:
        with self._told(self._folder / name / NEXT):
            if NEXT in self._disk.names(self._folder / name):
                self._disk.unlink(self._folder / name / NEXT)

    def account_key(self) -> AccountKey | None:
        """None where there is none yet. One that cannot be read is no reason to make another: it is told."""
        path = self._folder / ACCOUNT_KEY
        octets = self._read(path)
        if octets is None:
            return None
        try:
            return AccountKey.from_pem(octets)
        except ValueError as error:
            raise StoreFault(f"{path}: {error}: put it back from a backup, or remove it to begin anew") from None

    def keep_account_key(self, key: AccountKey) -> None:
        self._replace(self._folder / ACCOUNT_KEY, key.pem)

    def accounts(self) -> dict[str, Account]:
        """By the URL of the authority's directory."""
        return self._decode(self._folder / ACCOUNTS, dict[str, Account]) or {}

    def keep_accounts(self, accounts: dict[str, Account]) -> None:
        self._replace(self._folder / ACCOUNTS, msgspec.json.format(msgspec.json.encode(accounts)))

    # --- files ------------------------------------------------------------------------------------

    def _read(self, path: Path) -> bytes | None:
        with self._told(path):
            return bytes(self._disk.map(path)) if path.name in self._disk.names(path.parent) else None

    def _decode(self, path: Path, kind: type[T]) -> T | None:
        """What cannot be read is as if it were not there: what it says can be found out again."""
        octets = self._read(path)
        if octets is None:
            return None
        try:
            return msgspec.json.decode(octets, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _replace(self, path: Path, octets: bytes, trial: Callable[[Path], str] = lambda _: "") -> None:
        with self._told(path):
            self._disk.make_folder(path.parent)
            new = path.with_name(path.name + ".new")
            file = self._disk.append(new)
            try:
                file.truncate(0)  # of an attempt that was cut short
                file.write([octets])
                file.sync()
            finally:
                file.close()
            reason = trial(new)
            if reason:
                self._disk.unlink(new)
                raise AcmeFault(f"what the authority gave cannot be served: {reason}")
            self._disk.rename(new, path)

    @contextlib.contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_fault(f"{path} cannot be read or written", error) from error
