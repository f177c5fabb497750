# SPDX-License-Identifier: Apache-2.0
"""Who is it? Names and passwords, SASL exchanges, app passwords; for every edge alike.

A name that does not exist, a wrong password and a disabled account look the same from outside, in words and in
time. Only who proves the right password is told more.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from posthouse import telemetry
from posthouse.outcome import (
    AUTH_FAILED,
    ENCRYPTION_REQUIRED,
    INVALID_ARGUMENTS,
    MAILBOX_DISABLED,
    NOT_AUTHORIZED,
    SECURITY_TRANSIENT,
    Refusal,
)
from posthouse.ports import Change, ChangeBus, Clock, Database, Entropy, Peer, Reader, StoreFault, TlsInfo
from posthouse.protocol.sasl import (
    MECHANISMS,
    Challenge,
    PasswordGiven,
    Proven,
    SaslError,
    SecretsWanted,
    ServerExchange,
    prepare,
    server_exchange,
)
from posthouse.protocol.sasl.prepare import MAX_NAME, MAX_PASSWORD
from posthouse.protocol.sasl.scram import NONCE_OCTETS
from posthouse.services.bounded import Bounded
from posthouse.services.directory import TOPIC, Account, Directory
from posthouse.services.guard import Guard, place_of
from posthouse.services.passwords import Passwords
from posthouse.store import credentials
from posthouse.store.credentials import AppPassword, StoredPassword
from posthouse.store.lookup import fold
from posthouse.store.sealing import SealBroken, SecretKey

SUCCESS_PERIOD = 300.0  # seconds that a right password is known without its hash: POP3 clients ask every minute
MAX_SUCCESSES = 10_000  # some 150 octets each

WRONG = "Authentication failed"
NOBODY = 0  # no account has this id
MALFORMED = "malformed"  # counted in place of a name that is none


@dataclass(slots=True)
class SaslExchange:
    """One AUTH command on its way. Opaque to the edges."""

    mechanism: str
    scope: str
    peer: Peer
    inner: ServerExchange
    account: Account | None = None  # of the name in a SCRAM exchange
    name: str = ""
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Success:
    account: Account


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the database has for a name."""

    password: StoredPassword | None
    app_password: AppPassword | None


class Login:
    def __init__(
        self,
        directory: Directory,
        database: Database,
        bus: ChangeBus,
        passwords: Passwords,
        guard: Guard,
        *,
        clock: Clock,
        entropy: Entropy,
        key: SecretKey,
        mechanisms: Sequence[str] = ("SCRAM-SHA-256", "PLAIN", "LOGIN"),
    ) -> None:
        """`mechanisms`: what is offered, in this order."""
        self._directory = directory
        self._database = database
        self._passwords = passwords
        self._guard = guard
        self._clock = clock
        self._entropy = entropy
        self._key = key
        self._mechanisms = tuple(mechanisms)
        self._cache_key = entropy.octets(32)
        self._successes: Bounded[bytes, tuple[int, float]] = Bounded(MAX_SUCCESSES)
        self._changes = 0
        self._log = telemetry.logger("login")
        self._unsubscribe = bus.subscribe(TOPIC, 0, self._forget)

    def close(self) -> None:
        self._unsubscribe()

    # --- name and password ------------------------------------------------------------------------

    async def with_password(self, name: str, password: str, *, scope: str, peer: Peer) -> Account:
        """The account of this name and password. `scope`: smtp, pop3, imap or admin. Raises Refusal."""
        digest = self._digest(name, password, scope, peer)
        known = self._successes.get(digest)
        if known is not None and known[1] > self._clock.monotonic():
            account = await self._directory.account(name)
            if account is not None and account.id == known[0] and account.is_active:
                # Whoever has used up his guesses must not go on guessing with the cache's help.
                self._guard.check(peer, self._counted_name(name))
                return account
        return await self._verify(name, password, digest, scope=scope, peer=peer)

    async def _verify(self, name: str, password: str, digest: bytes, *, scope: str, peer: Peer) -> Account:
        began, changes = self._clock.monotonic(), self._changes
        prepared = _prepared(name)
        if prepared is None or not _is_possible(password):
            raise await self._failed(peer, MALFORMED, began, scope, "no name or no password")
        counted = self._counted_name(prepared)
        account: Account | None = None
        try:
            async with self._guard.turn(peer, counted):
                account = await self._directory.account(prepared)
                kept = await self._look_up(account, password)
                if kept.app_password is None:
                    stored = None if kept.password is None else kept.password.hash
                    verdict = await self._passwords.verify(stored, password)
                    is_right, wants_upgrade = verdict.is_right, verdict.wants_upgrade
                else:
                    is_right, wants_upgrade = True, False
                if not is_right:
                    self._guard.failed(peer, counted, digest)
        except StoreFault:
            raise Refusal(SECURITY_TRANSIENT, "Temporary authentication failure") from None
        if not is_right or account is None:
            raise await self._failed(peer, counted, began, scope, "wrong password", is_counted=True)
        self._guard.succeeded(peer, counted)
        self._admit(account, kept.app_password, scope=scope, peer=peer)
        await self._tend(account, kept, password, wants_upgrade=wants_upgrade)
        if changes == self._changes:
            self._successes.put(digest, (account.id, self._clock.monotonic() + SUCCESS_PERIOD))
        return account

    async def _look_up(self, account: Account | None, password: str) -> _Kept:
        account_id = NOBODY if account is None else account.id  # the same question for names that do not exist

        def query(reader: Reader) -> _Kept:
            stored = credentials.load_password(reader, account_id)
            return _Kept(stored, credentials.find_app_password(reader, self._key, password, account_id))

        return await self._database.read(query)

    def _admit(self, account: Account, app_password: AppPassword | None, *, scope: str, peer: Peer) -> None:
        """The password is right; is it good for this? Raises Refusal."""
        if not account.is_active:
            self._log.warning("login_disabled", account=account.name, scope=scope, peer=peer.address, trace=peer.trace)
            raise Refusal(MAILBOX_DISABLED, "This account is disabled")
        if app_password is not None and scope not in app_password.scopes:
            raise Refusal(NOT_AUTHORIZED, f"This app password is not good for {scope}")
        if scope == "admin" and not account.is_admin:
            raise Refusal(NOT_AUTHORIZED, "This account is no administrator")

    async def _tend(self, account: Account, kept: _Kept, password: str, *, wants_upgrade: bool) -> None:
        """Write down what a login tells: the use of an app password, the password in today's form.

        A fault here does not keep anybody out: it is for the next login.
        """
        now = self._clock.wall()
        try:
            if kept.app_password is not None:
                used = kept.app_password
                if credentials.wants_touch(used, now):
                    await self._database.write(lambda tx: credentials.touch(tx, used.id, now))
                return
            stored = kept.password
            assert stored is not None, "a password was right, so there is one"
            is_complete = stored.scram_kinds.issuperset(self._passwords.mechanisms)
            if is_complete and not wants_upgrade:
                return
            new = await self._passwords.make(password)
            await self._database.write(
                lambda tx: credentials.upgrade_password(tx, self._key, account.id, new, now, old_hash=stored.hash)
            )
            self._log.info("password_upgraded", account=account.name)
        except Refusal:
            return  # another server's password that we would not take as a new one: it stays as it is
        except StoreFault as fault:
            self._log.warning("login_not_recorded", account=account.name, reason=str(fault))

    # --- SASL -------------------------------------------------------------------------------------

    def mechanisms(self, *, is_protected: bool) -> tuple[str, ...]:
        """What to offer. Nothing without protection, not even SCRAM: a recorded exchange can be guessed at forever."""
        return self._mechanisms if is_protected else ()

    def start(
        self, mechanism: str, *, scope: str, peer: Peer, tls: TlsInfo | None, is_protected: bool | None = None
    ) -> SaslExchange:
        """Begin an exchange. `is_protected` None: TLS is; loopback is the operator's to allow. Raises Refusal."""
        wanted = mechanism.upper()
        if wanted not in MECHANISMS or wanted not in self._mechanisms:
            raise Refusal(INVALID_ARGUMENTS, "This authentication mechanism is not offered")
        if is_protected is None:
            is_protected = tls is not None
        if not is_protected:
            raise Refusal(ENCRYPTION_REQUIRED, "Encryption is required before authentication")
        nonce = b64encode(self._entropy.octets(NONCE_OCTETS)).decode()
        return SaslExchange(wanted, scope, peer, server_exchange(wanted, nonce), began=self._clock.monotonic())

    async def step(self, exchange: SaslExchange, response: bytes | None) -> Challenge | Success:
        """Go on with the client's message; None: there was no initial response. Raises Refusal: it is over."""
        if exchange.name:
            self._guard.check(exchange.peer, exchange.name)  # many exchanges begun at once end one after the other
        try:
            answer = exchange.inner.step(response)
            if isinstance(answer, SecretsWanted):
                return await self._give_secrets(exchange, answer.name)
        except SaslError as error:
            name = exchange.name or MALFORMED
            raise await self._failed(exchange.peer, name, exchange.began, exchange.scope, str(error)) from None
        match answer:
            case Challenge():
                return answer
            case PasswordGiven(name, password):
                return Success(await self.with_password(name, password, scope=exchange.scope, peer=exchange.peer))
            case Proven():
                return self._proven(exchange)

    async def _give_secrets(self, exchange: SaslExchange, name: str) -> Challenge:
        # RFC 5802 §9: a name without secrets gets a salt too, always the same one.
        exchange.name = self._counted_name(name)
        self._guard.check(exchange.peer, exchange.name)
        try:
            exchange.account = account = await self._directory.account(name)
            account_id = NOBODY if account is None else account.id
            secrets = await self._database.read(
                lambda reader: credentials.load_scram(reader, self._key, account_id, exchange.mechanism)
            )
        except (StoreFault, SealBroken) as fault:
            self._log.error("secrets_unreadable", name=name, reason=str(fault))
            raise Refusal(SECURITY_TRANSIENT, "Temporary authentication failure") from None
        if secrets is None:
            secrets = credentials.fake_scram(
                self._key, exchange.mechanism, exchange.name, iterations=self._passwords.iterations
            )
        return exchange.inner.secrets(secrets)

    def _proven(self, exchange: SaslExchange) -> Success:
        account = exchange.account
        assert account is not None, "nobody can prove a secret that does not exist"
        self._guard.succeeded(exchange.peer, exchange.name)
        self._admit(account, None, scope=exchange.scope, peer=exchange.peer)
        return Success(account)

    # --- both -------------------------------------------------------------------------------------

    async def _failed(
        self, peer: Peer, name: str, began: float, scope: str, reason: str, *, is_counted: bool = False
    ) -> Refusal:
        """Count, log and wait; then the one answer that every failure gets."""
        if not is_counted:
            self._guard.failed(peer, name)
        self._log.warning(
            "login_failed", name=name[:MAX_NAME], scope=scope, peer=peer.address, trace=peer.trace, reason=reason
        )
        await self._guard.delay(peer, name, began)
        return Refusal(AUTH_FAILED, WRONG)

    def _counted_name(self, name: str) -> str:
        """One spelling per account for the counts, whether it exists or not."""
        address = self._directory.login_address(name)
        return fold(name) if address is None else f"{fold(address.local_part)}@{address.domain.name}"

    def _digest(self, name: str, password: str, scope: str, peer: Peer) -> bytes:
        # The place is part of it: from anywhere else a right guess costs as much as a wrong one.
        text = f"{scope}\0{place_of(peer)}\0{len(name)}\0{name}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._cache_key, digest_size=24).digest()

    def _forget(self, _change: Change) -> None:
        self._changes += 1
        self._successes.clear()


def _prepared(name: str) -> str | None:
    if "\0" in name or len(name) > MAX_NAME:
        return None
    try:
        return prepare(name)
    except SaslError:
        return None


def _is_possible(password: str) -> bool:
    if not password or "\0" in password:
        return False
    try:
        return len(password.encode()) <= MAX_PASSWORD
    except UnicodeEncodeError:  # surrogates: it came as something else than UTF-8
        return False
