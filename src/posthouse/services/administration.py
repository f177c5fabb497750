# SPDX-License-Identifier: Apache-2.0
"""What an administrator does to the directory. Every verb is one unit of work, then a hint to all who cache.

Names come as text from a command line or an API; what is wrong with them is a `Refusal` in plain words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from posthouse.mail.address import Address, AddressError, Domain, parse_address
from posthouse.outcome import BAD_ADDRESS_SYNTAX, BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import Change, ChangeBus, Clock, Database, Entropy, Reader, Transaction
from posthouse.services import presence
from posthouse.services.directory import TOPIC
from posthouse.services.keys import DomainKeys
from posthouse.services.passwords import Passwords, check_imported
from posthouse.store import aliases, clearing, credentials, directory, keys, lookup
from posthouse.store.aliases import AliasRow
from posthouse.store.credentials import AppPassword, NewPassword
from posthouse.store.directory import AccountRow, DomainRow
from posthouse.store.lookup import Account
from posthouse.store.sealing import SecretKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewAppPassword:
    """Shown once: afterwards only its keyed hash is there."""

    id: int
    text: str = field(repr=False)


class Administration:
    def __init__(
        self,
        database: Database,
        bus: ChangeBus,
        passwords: Passwords,
        domain_keys: DomainKeys,
        *,
        clock: Clock,
        entropy: Entropy,
        key: SecretKey,
    ) -> None:
        self._database = database
        self._bus = bus
        self._passwords = passwords
        self._domain_keys = domain_keys
        self._clock = clock
        self._entropy = entropy
        self._key = key

    # --- domains ----------------------------------------------------------------------------------

    async def add_domain(self, name: str, *, alias_of: str | None = None, catch_all: str | None = None) -> int:
        """A domain with its DKIM keys; with `alias_of` another name of that domain. Returns its id."""
        domain = _domain(name)
        behind = None if alias_of is None else _domain(alias_of)
        target = None if catch_all is None else _address(catch_all)
        now = self._clock.wall()
        made = await self._domain_keys.make(now)

        def unit(tx: Transaction) -> int:
            domain_id = directory.add_domain(tx, domain, now, alias_of=behind, catch_all=target)
            for each in made:
                keys.add_key(tx, self._key, domain_id, each, now)
            return domain_id

        return await self._change(unit)

    async def make_missing_keys(self) -> list[str]:
        """DKIM keys for every domain that has none (after a rebuild without a snapshot); which domains these are."""
        now = self._clock.wall()
        renewed: list[str] = []
        for row in await self.list_domains():
            if row.alias_of is None and not await self._domain_keys.active(row.name):
                made = await self._domain_keys.make(now)
                await self._change(partial(_add_keys, key=self._key, domain=row.id, made=made, now=now))
                renewed.append(row.name)
        return renewed

    async def remove_domain(self, name: str) -> None:
        domain = _domain(name)
        await self._change(lambda tx: directory.remove_domain(tx, domain))

    async def set_catch_all(self, name: str, target: str | None) -> None:
        """Where letters for unknown names of a domain go; None: they are refused."""
        domain, address = _domain(name), None if target is None else _address(target)
        await self._change(lambda tx: directory.set_catch_all(tx, domain, address))

    async def list_domains(self) -> list[DomainRow]:
        return await self._database.read(directory.list_domains)

    # --- accounts ---------------------------------------------------------------------------------

    async def add_account(
        self,
        address: str,
        password: str | None = None,
        *,
        password_hash: str | None = None,
        quota: int | None = None,
        language: str = "en",
        is_admin: bool = False,
        display_name: str = "",
    ) -> int:
        """An account with its first mailboxes. Returns its id.

        `password_hash` is another server's hash, taken instead of a password and replaced at the first login;
        with neither nobody can log in until a password is set.
        """
        primary = _address(address)
        new = await self._new_password(password, password_hash)
        now = self._clock.wall()

        def unit(tx: Transaction) -> int:
            account = directory.add_account(
                tx, primary, now, quota=quota, language=language, is_admin=is_admin, display_name=display_name
            )
            if new is not None:
                credentials.set_password(tx, self._key, account, new, now)
            return account

        return await self._change(unit)

    async def set_password(
        self, address: str, password: str | None = None, *, password_hash: str | None = None
    ) -> None:
        """Replace the password (or another server's hash of it). App passwords stay."""
        new = await self._new_password(password, password_hash)
        if new is None:
            raise Refusal(INVALID_ARGUMENTS, "a password is needed")
        now = self._clock.wall()
        await self._on_account(
            address,
            lambda tx, account: credentials.set_password(tx, self._key, account.id, new, now),
            ends_sessions=True,
        )

    async def disable(self, address: str) -> None:
        """No letters, no login; everything is kept."""
        await self._on_account(
            address, lambda tx, account: directory.set_active(tx, account.id, is_active=False), ends_sessions=True
        )

    async def enable(self, address: str) -> None:
        await self._on_account(address, lambda tx, account: directory.set_active(tx, account.id, is_active=True))

    async def remove_account(self, address: str) -> None:
        """The account and all its letters.

        The letters go first, in many units of work, while the account is disabled; one that is still disabled after
        a crash in between is removed by asking again.
        """
        account = await self._on_account(address, _disable, ends_sessions=True)
        now = self._clock.wall()
        while await self._database.write(partial(clearing.clear_account, account=account, now=now)):
            pass
        await self._on_account(address, lambda tx, found: directory.remove_account(tx, found.id))

    async def set_quota(self, address: str, quota: int | None) -> None:
        """In octets; None for no limit."""
        await self._on_account(address, lambda tx, account: directory.set_quota(tx, account.id, quota))

    async def set_language(self, address: str, language: str) -> None:
        await self._on_account(address, lambda tx, account: directory.set_language(tx, account.id, language))

    async def set_admin(self, address: str, *, is_admin: bool) -> None:
        await self._on_account(address, lambda tx, account: directory.set_admin(tx, account.id, is_admin=is_admin))

    async def add_address(self, account: str, address: str) -> None:
        """One more address for an account."""
        extra = _address(address)
        await self._on_account(account, lambda tx, found: directory.add_address(tx, found.id, extra))

    async def remove_address(self, account: str, address: str) -> None:
        extra = _address(address)
        await self._on_account(account, lambda tx, found: directory.remove_address(tx, found.id, extra))

    async def list_accounts(self, domain: str | None = None) -> list[AccountRow]:
        wanted = None if domain is None else _domain(domain)
        found: list[AccountRow] = []
        while True:
            after = found[-1].name if found else ""
            page = await self._database.read(_page_of_accounts(wanted, after))
            found += page
            if len(page) < directory.PAGE:
                return found

    # --- aliases ----------------------------------------------------------------------------------

    async def add_alias(self, address: str, targets: Sequence[str]) -> None:
        """Make an alias or add targets to one."""
        alias, wanted = _address(address), [_address(target) for target in targets]
        await self._change(lambda tx: aliases.add_alias(tx, alias, wanted))

    async def remove_alias(self, address: str, targets: Sequence[str] = ()) -> None:
        """Remove these targets; with none named the alias."""
        alias, wanted = _address(address), [_address(target) for target in targets]
        await self._change(lambda tx: aliases.remove_alias(tx, alias, wanted))

    async def list_aliases(self, domain: str | None = None) -> list[AliasRow]:
        wanted = None if domain is None else _domain(domain)
        return await self._database.read(lambda reader: aliases.list_aliases(reader, domain=wanted))

    # --- app passwords ----------------------------------------------------------------------------

    async def add_app_password(
        self, address: str, label: str, scopes: Sequence[str] = credentials.SCOPES
    ) -> NewAppPassword:
        """A password for one device or program."""
        now = self._clock.wall()
        while True:  # a prefix is taken once in about a hundred thousand times
            text = credentials.make_app_password(self._entropy.octets(credentials.APP_PASSWORD_OCTETS))
            number = await self._on_account(address, self._adding(text, label, scopes, now))
            if number is not None:
                return NewAppPassword(number, text)

    def _adding(
        self, text: str, label: str, scopes: Sequence[str], now: float
    ) -> Callable[[Transaction, Account], int | None]:
        return lambda tx, account: credentials.add_app_password(
            tx, self._key, account.id, text, label=label, scopes=scopes, now=now
        )

    async def list_app_passwords(self, address: str) -> list[AppPassword]:
        wanted = _address(address)

        def query(reader: Reader) -> list[AppPassword]:
            return credentials.list_app_passwords(reader, _account(reader, wanted).id)

        return await self._database.read(query)

    async def revoke_app_password(self, address: str, number: int) -> None:
        await self._on_account(
            address, lambda tx, account: credentials.revoke_app_password(tx, account.id, number), ends_sessions=True
        )

    # --- how every verb runs ----------------------------------------------------------------------

    async def _change(self, unit: Callable[[Transaction], T]) -> T:
        result = await self._database.write(unit)
        self._bus.publish(Change(TOPIC))
        return result

    async def _on_account(
        self, address: str, act: Callable[[Transaction, Account], T], *, ends_sessions: bool = False
    ) -> T:
        """`ends_sessions`: those who are logged in must prove anew who they are."""
        wanted = _address(address)

        def unit(tx: Transaction) -> tuple[int, T]:
            account = _account(tx, wanted)
            return account.id, act(tx, account)

        number, result = await self._change(unit)
        if ends_sessions:
            self._bus.publish(Change(presence.TOPIC, number))
        return result

    async def _new_password(self, password: str | None, password_hash: str | None) -> NewPassword | None:
        if password_hash is not None:
            return NewPassword(check_imported(password_hash))
        return None if password is None else await self._passwords.make(password)


def _disable(tx: Transaction, account: Account) -> int:
    directory.set_active(tx, account.id, is_active=False)
    return account.id


def _add_keys(tx: Transaction, *, key: SecretKey, domain: int, made: Sequence[keys.NewKey], now: float) -> None:
    for each in made:
        keys.add_key(tx, key, domain, each, now)


def _page_of_accounts(domain: Domain | None, after: str) -> Callable[[Reader], list[AccountRow]]:
    return lambda reader: directory.list_accounts(reader, domain=domain, after=after)


def _account(reader: Reader, address: Address) -> Account:
    found = lookup.find_account(reader, address)
    if found is None:
        raise Refusal(BAD_MAILBOX, f"there is no account {directory.said(address)}")
    return found


def _address(text: str) -> Address:
    try:
        return parse_address(text.strip())
    except AddressError as error:
        raise Refusal(BAD_ADDRESS_SYNTAX, directory.said(f"{text.strip()}: {error}")) from None


def _domain(text: str) -> Domain:
    try:
        return Domain.parse(text.strip())
    except AddressError as error:
        raise Refusal(BAD_ADDRESS_SYNTAX, directory.said(f"{text.strip()}: {error}")) from None
