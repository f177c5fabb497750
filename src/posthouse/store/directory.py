# SPDX-License-Identifier: Apache-2.0
"""Domains, accounts and their addresses: what may exist beside what.

An address belongs to one account or is one alias, never both. Every function runs inside one unit of work and
raises `Refusal` with a sentence for the administrator; nothing is changed then.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.address import Address, Domain
from posthouse.outcome import BAD_DOMAIN, BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import Reader, Transaction
from posthouse.store import clearing, credentials, keys, mailboxes
from posthouse.store.lookup import find_domain, fold

DEFAULT_TENANT = 1
MAX_ADDRESSES = 100  # per account: more than any person uses; whoever needs all of a domain takes the catch-all
MAX_DISPLAY_NAME = 200  # characters; it goes into From header fields, which stay below 998 octets
LANGUAGES = ("en", "zh")  # in which reports to the account's owner are written
MAX_QUOTA = 1 << 50  # octets, a petabyte: a larger number is a slip of the finger
PAGE = 1000  # accounts in one answer: no query holds the reader for longer than some milliseconds


@dataclass(frozen=True, slots=True)
class DomainRow:
    id: int
    name: str
    alias_of: str | None
    catch_all: str | None
    accounts: int
    aliases: int
    created_at: float


@dataclass(frozen=True, slots=True)
class AccountRow:
    """`addresses`: all of them as text, local parts folded."""

    id: int
    name: str
    is_active: bool
    quota: int | None  # octets
    language: str
    is_admin: bool
    display_name: str
    used_octets: int
    used_letters: int
    created_at: float
    addresses: tuple[str, ...]


def said(value: object) -> str:
    """An address or name in a refusal's text, which is one line of ASCII (all else is escaped)."""
    return str(value).encode("unicode_escape").decode()


# --- domains ----------------------------------------------------------------------------------------


def add_domain(
    tx: Transaction, domain: Domain, now: float, *, alias_of: Domain | None = None, catch_all: Address | None = None
) -> int:
    """Take letters for a domain; as another name of `alias_of` when that is given. Returns its id."""
    if domain.is_literal:
        raise Refusal(BAD_DOMAIN, "an address literal cannot be a mail domain here")
    if tx.row("SELECT id FROM domain WHERE name = :name", name=domain.name):
        raise Refusal(INVALID_ARGUMENTS, f"the domain {domain} is already here")
    target: int | None = None
    if alias_of is not None:
        if catch_all is not None:
            raise Refusal(INVALID_ARGUMENTS, "a domain alias shares the catch-all of its domain; set it there")
        row = tx.row("SELECT id, alias_of FROM domain WHERE name = :name", name=alias_of.name)
        if row is None:
            raise Refusal(BAD_DOMAIN, f"the domain {alias_of} is not here")
        if row[1] is not None:
            raise Refusal(INVALID_ARGUMENTS, f"{alias_of} is itself an alias; name the domain behind it")
        target = row[0]
    domain_id = tx.new_id()
    tx.run(
        "INSERT INTO domain (id, tenant, name, alias_of, catch_all, created_at)"
        " VALUES (:id, :tenant, :name, :alias_of, :catch_all, :now)",
        id=domain_id,
        tenant=DEFAULT_TENANT,
        name=domain.name,
        alias_of=target,
        catch_all=None if catch_all is None else str(catch_all),
        now=now,
    )
    return domain_id


def remove_domain(tx: Transaction, domain: Domain) -> None:
    """Only an empty domain goes: its accounts hold letters, so they are removed one by one and on purpose."""
    row = tx.row("SELECT id FROM domain WHERE name = :name", name=domain.name)
    if row is None:
        raise Refusal(BAD_DOMAIN, f"the domain {domain} is not here")
    domain_id: int = row[0]
    counts = tx.row(
        "SELECT (SELECT COUNT(*) FROM address WHERE domain = :id AND kind = 'account'),"
        " (SELECT COUNT(*) FROM address WHERE domain = :id AND kind = 'alias'),"
        " (SELECT COUNT(*) FROM domain WHERE alias_of = :id)",
        id=domain_id,
    )
    assert counts is not None
    if any(counts):
        raise Refusal(
            INVALID_ARGUMENTS,
            f"{domain} still has {counts[0]} account addresses, {counts[1]} aliases and {counts[2]} domain aliases;"
            " remove them first",
        )
    keys.remove_keys(tx, domain_id)
    tx.run("DELETE FROM domain WHERE id = :id", id=domain_id)


def set_catch_all(tx: Transaction, domain: Domain, target: Address | None) -> None:
    found = find_domain(tx, domain.name)
    if found is None:
        raise Refusal(BAD_DOMAIN, f"the domain {domain} is not here")
    if found.name != domain.name:
        raise Refusal(INVALID_ARGUMENTS, f"{domain} is an alias of {found.name}; set the catch-all there")
    tx.run(
        "UPDATE domain SET catch_all = :target WHERE id = :id",
        id=found.id,
        target=None if target is None else str(target),
    )


def list_domains(reader: Reader) -> list[DomainRow]:
    rows = reader.rows(
        "SELECT d.id, d.name, t.name, d.catch_all,"
        " (SELECT COUNT(*) FROM address x WHERE x.domain = d.id AND x.kind = 'account'),"
        " (SELECT COUNT(*) FROM address x WHERE x.domain = d.id AND x.kind = 'alias'), d.created_at"
        " FROM domain d LEFT JOIN domain t ON t.id = d.alias_of ORDER BY d.name"
    )
    return [DomainRow(*row) for row in rows]


# --- addresses --------------------------------------------------------------------------------------


def domain_for(tx: Reader, address: Address) -> int:
    """The id of the domain that holds this address. An alias domain holds none of its own."""
    found = find_domain(tx, address.domain.name)
    if found is None:
        raise Refusal(BAD_DOMAIN, f"the domain {address.domain} is not here; add it first")
    if found.name != address.domain.name:
        raise Refusal(INVALID_ARGUMENTS, f"{address.domain} is an alias of {found.name}; use the address there")
    return found.id


def insert_address(tx: Transaction, address: Address, kind: str, account: int | None) -> int:
    """Take an address for an account or an alias; refused when it is taken."""
    domain_id, local_part = _free_place(tx, address)
    address_id = tx.new_id()
    tx.run(
        "INSERT INTO address (id, domain, local_part, kind, account)"
        " VALUES (:id, :domain, :local_part, :kind, :account)",
        id=address_id,
        domain=domain_id,
        local_part=local_part,
        kind=kind,
        account=account,
    )
    return address_id


def _free_place(tx: Reader, address: Address) -> tuple[int, str]:
    """(domain id, folded local part) of an address that nobody has yet; else Refusal."""
    domain_id, local_part = domain_for(tx, address), fold(address.local_part)
    taken = tx.row(
        "SELECT kind FROM address WHERE domain = :domain AND local_part = :local_part",
        domain=domain_id,
        local_part=local_part,
    )
    if taken is not None:
        raise Refusal(INVALID_ARGUMENTS, f"{said(address)} is already the address of an {taken[0]}")
    return domain_id, local_part


def add_address(tx: Transaction, account: int, address: Address) -> None:
    """One more address for an account."""
    count = tx.row("SELECT COUNT(*) FROM address WHERE account = :account", account=account)
    assert count is not None
    if count[0] >= MAX_ADDRESSES:
        raise Refusal(INVALID_ARGUMENTS, f"an account has at most {MAX_ADDRESSES} addresses")
    insert_address(tx, address, "account", account)


def remove_address(tx: Transaction, account: int, address: Address) -> None:
    """Take an address away; the primary one stays as long as the account."""
    name = _name(tx, account)
    domain_id, local_part = domain_for(tx, address), fold(address.local_part)
    row = tx.row(
        "SELECT id FROM address WHERE domain = :domain AND local_part = :local_part AND account = :account",
        domain=domain_id,
        local_part=local_part,
        account=account,
    )
    if row is None:
        raise Refusal(BAD_MAILBOX, f"{said(address)} is no address of {said(name)}")
    primary = tx.row("SELECT MIN(id) FROM address WHERE account = :account", account=account)
    if primary is not None and primary[0] == row[0]:
        raise Refusal(INVALID_ARGUMENTS, f"{said(address)} is the primary address of the account and stays")
    tx.run("DELETE FROM address WHERE id = :id", id=row[0])


# --- accounts ---------------------------------------------------------------------------------------


def add_account(
    tx: Transaction,
    address: Address,
    now: float,
    *,
    quota: int | None = None,
    language: str = "en",
    is_admin: bool = False,
    display_name: str = "",
) -> int:
    """An active account with its primary address and its first mailboxes. Returns its id."""
    _check_quota(quota)
    _check_language(language)
    if len(display_name) > MAX_DISPLAY_NAME or not (display_name.isprintable()):
        raise Refusal(INVALID_ARGUMENTS, f"a display name is one line of at most {MAX_DISPLAY_NAME} characters")
    _free_place(tx, address)
    account = tx.new_id()
    tx.run(
        "INSERT INTO account (id, tenant, name, state, quota, language, is_admin, display_name, created_at)"
        " VALUES (:id, :tenant, :name, 'active', :quota, :language, :is_admin, :display_name, :now)",
        id=account,
        tenant=DEFAULT_TENANT,
        name=str(address),
        quota=quota,
        language=language,
        is_admin=int(is_admin),
        display_name=display_name,
        now=now,
    )
    insert_address(tx, address, "account", account)
    mailboxes.create_account_mailboxes(tx, account, now)
    return account


def remove_account(tx: Transaction, account: int) -> None:
    """The account, its letters, addresses and credentials. Aliases that name it as a target keep the name."""
    _name(tx, account)
    clearing.delete_account_mailboxes(tx, account)
    tx.run("DELETE FROM address WHERE account = :account", account=account)
    credentials.remove_all(tx, account)
    tx.run("DELETE FROM account WHERE id = :id", id=account)


def set_active(tx: Transaction, account: int, *, is_active: bool) -> None:
    """A disabled account gets no letters and cannot log in; what it has is kept."""
    tx.run("UPDATE account SET state = :state WHERE id = :id", id=account, state="active" if is_active else "disabled")


def set_quota(tx: Transaction, account: int, quota: int | None) -> None:
    """In octets; None for no limit. What is over it already stays."""
    _check_quota(quota)
    tx.run("UPDATE account SET quota = :quota WHERE id = :id", id=account, quota=quota)


def set_language(tx: Transaction, account: int, language: str) -> None:
    _check_language(language)
    tx.run("UPDATE account SET language = :language WHERE id = :id", id=account, language=language)


def set_admin(tx: Transaction, account: int, *, is_admin: bool) -> None:
    tx.run("UPDATE account SET is_admin = :is_admin WHERE id = :id", id=account, is_admin=int(is_admin))


def list_accounts(
    reader: Reader, *, domain: Domain | None = None, after: str = "", limit: int = 1000
) -> list[AccountRow]:
    """A page of accounts in the order of their names, those after the name `after`; with an address in `domain`."""
    rows = reader.rows(
        "SELECT a.id, a.name, a.state, a.quota, a.language, a.is_admin, a.display_name, a.used_octets,"
        " a.used_letters, a.created_at FROM account a WHERE a.name > :after AND (:domain = '' OR EXISTS"
        " (SELECT 1 FROM address x JOIN domain d ON d.id = x.domain WHERE x.account = a.id AND d.name = :domain))"
        " ORDER BY a.name LIMIT :limit",
        after=after,
        domain="" if domain is None else domain.name,
        limit=limit,
    )
    return [
        AccountRow(
            id=row[0],
            name=row[1],
            is_active=row[2] == "active",
            quota=row[3],
            language=row[4],
            is_admin=bool(row[5]),
            display_name=row[6],
            used_octets=row[7],
            used_letters=row[8],
            created_at=row[9],
            addresses=addresses_of(reader, row[0]),
        )
        for row in rows
    ]


def addresses_of(reader: Reader, account: int) -> tuple[str, ...]:
    """All addresses of an account as text, the primary one first."""
    rows = reader.rows(
        "SELECT x.local_part, d.name FROM address x JOIN domain d ON d.id = x.domain"
        " WHERE x.account = :account ORDER BY x.id",
        account=account,
    )
    return tuple(str(Address(local_part, Domain(name))) for local_part, name in rows)


def _name(tx: Reader, account: int) -> str:
    row = tx.row("SELECT name FROM account WHERE id = :id", id=account)
    if row is None:
        raise Refusal(BAD_MAILBOX, "there is no such account")
    name: str = row[0]
    return name


def _check_quota(quota: int | None) -> None:
    if quota is not None and not 0 < quota <= MAX_QUOTA:
        raise Refusal(INVALID_ARGUMENTS, f"a quota is between 1 and {MAX_QUOTA} octets, or none")


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise Refusal(INVALID_ARGUMENTS, f"the languages are {', '.join(LANGUAGES)}")
