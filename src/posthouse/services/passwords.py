# SPDX-License-Identifier: Apache-2.0
"""Slow hashes, in the bounded `hash` pool: making them for new passwords, verifying ours and other servers'.

Every verification costs at least one Argon2id, also for a name that does not exist: time tells nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from passlib.context import CryptContext
from passlib.exc import MissingBackendError, PasswordSizeError

from posthouse.outcome import INVALID_ARGUMENTS, Refusal
from posthouse.ports import Entropy, Workers
from posthouse.protocol.sasl import SaslError, prepare
from posthouse.protocol.sasl.prepare import MAX_PASSWORD
from posthouse.protocol.sasl.scram import ITERATIONS, SALT_OCTETS, derive
from posthouse.store.credentials import NewPassword, SealedNonce
from posthouse.store.sealing import NONCE_OCTETS

POOL = "hash"


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters. The defaults are OWASP's smallest recommended set: 20 ms, and 2 GB machines bear it."""

    time: int = 2
    memory: int = 19 * 1024  # KiB
    lanes: int = 1


# What libpass verifies for us, the usual schemes of Dovecot, OpenLDAP and Unix. Verified only, never made.
_IMPORTED = CryptContext(
    schemes=[
        "sha512_crypt",
        "sha256_crypt",
        "md5_crypt",
        "bcrypt",
        "ldap_salted_sha1",
        "ldap_salted_sha256",
        "ldap_salted_sha512",
        "ldap_sha1",
        "pbkdf2_sha1",
        "pbkdf2_sha256",
        "pbkdf2_sha512",
        "ldap_pbkdf2_sha1",
        "ldap_pbkdf2_sha256",
        "ldap_pbkdf2_sha512",
    ]
)
# Dovecot writes the scheme before hashes that name it themselves.
_DOVECOT_PREFIXES = (
    "{SHA512-CRYPT}",
    "{SHA256-CRYPT}",
    "{MD5-CRYPT}",
    "{BLF-CRYPT}",
    "{CRYPT}",
    "{ARGON2ID}",
    "{ARGON2I}",
)
_DOVECOT_PBKDF2 = "{PBKDF2}$1$"  # then salt$rounds$hex, PBKDF2 with HMAC-SHA-1

# What one verification may cost: some seconds of one thread. Hashes come in files from outside, and whoever knows
# the name of an account can have its hash verified as often as he tries to log in.
MAX_ARGON2_MEMORY = 256 * 1024  # KiB
MAX_ARGON2_WORK = 2 * 1024 * 1024  # KiB times passes
MAX_ARGON2_LANES = 16  # each is a thread of its own; other servers make 1 to 8
MAX_ROUNDS = 3_000_000
MAX_BCRYPT_COST = 15  # a power of two
MAX_DIGITS = 10  # of a count; longer ones are too large in any case
MAX_DIGEST = 64  # octets: PBKDF2 does all of its rounds for every 20 of them, and Dovecot keeps 20
# Where rounds stand, whatever stands there: libpass also takes +5, 5_0 and digits of other scripts for numbers.
_ROUNDS = re.compile(r"(?:\$[56]\$rounds=|\$pbkdf2[^$]*\$|\{PBKDF2[^}]*\}(?:\$1\$[^$]*\$)?)([^$]*)", re.IGNORECASE)
_BCRYPT_COST = re.compile(r"\$2[a-z]?\$([^$]*)")


@dataclass(frozen=True, slots=True)
class Verdict:
    is_right: bool
    wants_upgrade: bool = False  # right, but kept in a weaker form than we would make today


class Passwords:
    def __init__(
        self,
        workers: Workers,
        entropy: Entropy,
        *,
        mechanisms: Sequence[str] = ("SCRAM-SHA-256",),
        iterations: int = ITERATIONS,
        cost: Cost | None = None,
    ) -> None:
        """`mechanisms`: those for which SCRAM secrets are kept, with `iterations` rounds."""
        cost = cost or Cost()
        self._workers = workers
        self._entropy = entropy
        self.mechanisms = tuple(mechanisms)
        self.iterations = iterations
        self._hasher = PasswordHasher(
            time_cost=cost.time, memory_cost=cost.memory, parallelism=cost.lanes, type=Type.ID, salt_len=16, hash_len=32
        )
        # A well formed hash of no password at all: verifying against it costs what any other costs.
        salt, digest = (b64encode(bytes(size)).decode().rstrip("=") for size in (16, 32))
        self._nobody = f"$argon2id$v=19$m={cost.memory},t={cost.time},p={cost.lanes}${salt}${digest}"

    async def make(self, password: str) -> NewPassword:
        """Everything that is kept of a new password. Raises Refusal for one that cannot be used."""
        if not password or len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD:
            raise Refusal(INVALID_ARGUMENTS, f"a password has between 1 and {MAX_PASSWORD} octets")
        try:
            prepared = prepare(password)
        except SaslError:
            raise Refusal(
                INVALID_ARGUMENTS,
                "the password has characters that mail programs cannot send alike (control characters, emoji)",
            ) from None
        salt = self._entropy.octets(16)
        plan = [
            (each, self._entropy.octets(SALT_OCTETS), self._entropy.octets(NONCE_OCTETS)) for each in self.mechanisms
        ]

        def work() -> NewPassword:
            scram = (
                SealedNonce(each, derive(each, prepared, scram_salt, self.iterations), nonce)
                for each, scram_salt, nonce in plan
            )
            return NewPassword(self._hasher.hash(prepared.encode(), salt=salt), tuple(scram))

        return await self._workers.run(work, pool=POOL)

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Compare a password with what is kept of it; None: there is nobody, but the work is done."""
        try:
            forms = dict.fromkeys((prepare(password), password))
        except SaslError:
            forms = dict.fromkeys((password,))  # other servers take any octets, and so may an imported hash
        return await self._workers.run(lambda: self._verify(stored, list(forms)), pool=POOL)

    def _verify(self, stored: str | None, forms: list[str]) -> Verdict:
        if stored is None or not is_argon2(stored):
            is_right = stored is not None and any(_verify_imported(stored, form) for form in forms)
            if not is_right:
                for form in forms:
                    self._verify_argon2(self._nobody, form)
            return Verdict(is_right, wants_upgrade=is_right)
        stored = _without_prefix(stored)
        if not any(self._verify_argon2(stored, form) for form in forms):
            return Verdict(is_right=False)
        return Verdict(is_right=True, wants_upgrade=self._hasher.check_needs_rehash(stored))

    def _verify_argon2(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password.encode())
        except (VerificationError, InvalidHashError, UnicodeEncodeError):  # the last: of a hash that is not ASCII
            return False


def check_imported(text: str) -> str:
    """A hash from another server, in the form in which it is kept. Raises Refusal when it cannot be verified here."""
    stored = text.strip()
    if not _is_affordable(_without_prefix(stored)):
        text = "verifying this password hash would take too long, or its cost cannot be read; set a new password"
        raise Refusal(INVALID_ARGUMENTS, text)
    if stored.isascii() and (is_argon2(stored) or _dovecot_pbkdf2(stored) is not None):
        return stored
    try:
        scheme = _IMPORTED.identify(_without_prefix(stored))
        if scheme is not None:
            _IMPORTED.verify("", _without_prefix(stored))
    except MissingBackendError:
        raise Refusal(INVALID_ARGUMENTS, "bcrypt hashes need the Python package bcrypt beside this server") from None
    except (ValueError, TypeError, PasswordSizeError):  # as in _verify_imported: damaged hashes raise them all
        scheme = None
    if scheme is None:
        raise Refusal(INVALID_ARGUMENTS, "this kind of password hash is not known here")
    return stored


def _is_affordable(stored: str) -> bool:
    if is_argon2(stored):
        try:
            cost = extract_parameters(stored)
        except InvalidHashError:
            return True  # it is never right, and known to be so at once
        return (
            cost.memory_cost <= MAX_ARGON2_MEMORY
            and cost.memory_cost * cost.time_cost <= MAX_ARGON2_WORK
            and cost.parallelism <= MAX_ARGON2_LANES
        )
    rounds, bcrypt = _ROUNDS.match(stored), _BCRYPT_COST.match(stored)
    return (rounds is None or _is_at_most(rounds[1], MAX_ROUNDS)) and (
        bcrypt is None or _is_at_most(bcrypt[1], MAX_BCRYPT_COST)
    )


def _is_at_most(text: str, most: int) -> bool:
    """Whether it is a number in plain digits, and no larger."""
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and int(text) <= most


def is_argon2(stored: str) -> bool:
    return _without_prefix(stored).startswith(("$argon2id$", "$argon2i$"))


def _without_prefix(stored: str) -> str:
    for prefix in _DOVECOT_PREFIXES:
        if stored[: len(prefix)].upper() == prefix:
            return stored[len(prefix) :]
    return stored


def _verify_imported(stored: str, password: str) -> bool:
    dovecot = _dovecot_pbkdf2(stored)
    if dovecot is not None:
        salt, rounds, digest = dovecot
        made = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, rounds, len(digest))
        return hmac.compare_digest(made, digest)
    try:
        return bool(_IMPORTED.verify(password, _without_prefix(stored)))
    except (ValueError, TypeError, MissingBackendError, PasswordSizeError):
        return False


def _dovecot_pbkdf2(stored: str) -> tuple[bytes, int, bytes] | None:
    if not stored.upper().startswith(_DOVECOT_PBKDF2):
        return None
    parts = stored[len(_DOVECOT_PBKDF2) :].split("$")
    try:
        salt, rounds, digest = parts[0].encode(), int(parts[1]), bytes.fromhex(parts[2])
    except (IndexError, ValueError):
        return None
    return (salt, rounds, digest) if rounds > 0 and 0 < len(digest) <= MAX_DIGEST and len(parts) == 3 else None
