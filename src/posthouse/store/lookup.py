# SPDX-License-Identifier: Apache-2.0
"""Who gets a letter for this address: the one place that expands domain aliases, aliases, `+detail` and catch-alls.

Expansion always ends: an address is visited once, and depth and number of targets are bounded.
postmaster@ and abuse@ of every local domain reach somebody as long as any account is active here.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from posthouse.mail.address import Address, parse_address
from posthouse.outcome import BAD_MAILBOX, MAILBOX_DISABLED, ROUTING_LOOP, TOO_MANY_RECIPIENTS, Status
from posthouse.ports import Reader, Row

# An alias of an alias of … ten deep is a mistake, and every level is a round of look-ups.
MAX_ALIAS_DEPTH = 10
# What one address may stand for in all; the same as a mail transaction may have recipients. More is a mailing list.
MAX_ALIAS_TARGETS = 1000
# Addresses looked at in one expansion: aliases that lead nowhere count for no target, but cost time all the same.
MAX_ALIAS_STEPS = 4 * MAX_ALIAS_TARGETS

# RFC 5321 §4.5.1 and RFC 2142 §4: always deliverable, whatever the directory says.
RESERVED = ("postmaster", "abuse")


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account as the services see it. `address` is the primary address, `name` the same as text."""

    id: int
    name: str
    address: Address
    is_active: bool
    quota: int | None  # octets
    language: str
    is_admin: bool
    inbox: int  # mailbox id


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where letters for an address go. `status` is None when somebody gets them, else why nobody does."""

    address: Address
    domain_is_local: bool
    accounts: tuple[Account, ...] = ()
    remote: tuple[Address, ...] = ()
    is_alias: bool = False
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class House:
    """What the directory's tables do not say: our own name, and the character before a sub-address' detail."""

    hostname: str
    detail_separator: str = "+"  # RFC 5233 §1; empty switches sub-addressing off


@dataclass(frozen=True, slots=True)
class LocalDomain:
    """A local domain with its aliases resolved: `id` is where the addresses are."""

    id: int
    name: str
    catch_all: str | None


def fold(local_part: str) -> str:
    """The comparable form of a local part at home: case folded, NFC (RFC 6532 §3.1)."""
    if local_part.isascii():
        return local_part.lower()
    # Decomposed before folding: Unicode's canonical caseless matching (The Unicode Standard, D145).
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", local_part).casefold())


def find_domain(reader: Reader, name: str) -> LocalDomain | None:
    row = reader.row(
        "SELECT t.id, t.name, t.catch_all FROM domain d JOIN domain t ON t.id = COALESCE(d.alias_of, d.id)"
        " WHERE d.name = :name",
        name=name,
    )
    return None if row is None else LocalDomain(*row)


def domain_id(reader: Reader, name: str) -> int | None:
    """Of exactly this domain, also if it is another name of one."""
    row = reader.row("SELECT id FROM domain WHERE name = :name", name=name)
    return None if row is None else int(row[0])


def find_account(reader: Reader, address: Address) -> Account | None:
    """The account that has exactly this address (also under a domain alias), active or not."""
    domain = find_domain(reader, address.domain.name)
    if domain is None:
        return None
    row = reader.row(
        _ACCOUNT + " JOIN address x ON x.account = a.id WHERE x.domain = :domain AND x.local_part = :local_part",
        domain=domain.id,
        local_part=fold(address.local_part),
    )
    return None if row is None else _account(row)


def account_named(reader: Reader, name: str) -> int | None:
    """Id of the account with exactly this name (its primary address as text)."""
    row = reader.row("SELECT id FROM account WHERE name = :name", name=name)
    return None if row is None else int(row[0])


def name_of(reader: Reader, account: int) -> str | None:
    row = reader.row("SELECT name FROM account WHERE id = :account", account=account)
    return None if row is None else str(row[0])


def owns(reader: Reader, house: House, account: int, address: Address) -> bool:
    """Whether this is one of the account's own addresses, a domain-alias twin or a detail form of one."""
    domain = find_domain(reader, address.domain.name)
    if domain is None:
        return False
    local_part = fold(address.local_part)
    for each in dict.fromkeys((local_part, without_detail(house, local_part))):
        row = _address_row(reader, domain.id, each)
        if row is not None:  # the exact form decides: a+b@ may be somebody else's address
            return bool(row[1] == "account" and row[2] == account)
    return False


def without_detail(house: House, local_part: str) -> str:
    if not house.detail_separator:
        return local_part
    base = local_part.partition(house.detail_separator)[0]
    return base or local_part  # "+x@" has no base


def has_own_row(reader: Reader, address: Address) -> bool:
    """Whether exactly this address is somebody's, or an alias: a detail form (list+7@) seldom is."""
    domain = find_domain(reader, address.domain.name)
    return domain is not None and _address_row(reader, domain.id, fold(address.local_part)) is not None


def resolve(reader: Reader, house: House, address: Address) -> Resolution:
    domain = find_domain(reader, address.domain.name)
    if domain is None and address.domain.name != house.hostname:
        return Resolution(address, domain_is_local=False, remote=(address,))
    expansion = _Expansion(reader, house)
    expansion.expand(address, 0)
    if not expansion.is_deliverable and fold(address.local_part) in RESERVED:
        guard = _postmaster(reader, domain)
        if guard is not None:
            return Resolution(address, domain_is_local=True, accounts=(guard,), is_alias=True)
    return Resolution(
        address,
        domain_is_local=True,
        accounts=tuple(expansion.accounts.values()) if expansion.is_deliverable else (),
        remote=tuple(expansion.remote.values()) if expansion.is_deliverable else (),
        is_alias=expansion.is_alias,
        status=None if expansion.is_deliverable else expansion.reason,
    )


@dataclass(slots=True)
class _Expansion:
    """One walk from an address to the accounts and remote addresses behind it, in the order of the targets."""

    reader: Reader
    house: House
    accounts: dict[int, Account] = field(default_factory=dict)
    remote: dict[tuple[str, str], Address] = field(default_factory=dict)
    is_alias: bool = False
    reason: Status = BAD_MAILBOX
    _seen: set[tuple[int, str]] = field(default_factory=set)
    _domains: dict[str, LocalDomain | None] = field(default_factory=dict)  # a list's members share a few
    _is_over: bool = False
    _steps: int = 0

    @property
    def is_deliverable(self) -> bool:
        return not self._is_over and bool(self.accounts or self.remote)

    def expand(self, address: Address, depth: int) -> None:
        self._steps += 1
        domain = self._domain(address.domain.name)
        if domain is None:
            if address.domain.name == self.house.hostname:
                self._expand_own_name(address)
            else:
                self.remote.setdefault(address.key, address)
            return
        row = self._find(domain, fold(address.local_part))
        if row is not None and row[1] == "account":
            self._add_account(row[4:])
        elif row is not None:
            self._follow(domain, row[3], self._targets(row[0]), depth)
        elif domain.catch_all is not None and fold(address.local_part) not in RESERVED:
            self._follow(domain, "*", [domain.catch_all], depth)
        elif depth and fold(address.local_part) in RESERVED:
            self._add_guard(domain)

    def _domain(self, name: str) -> LocalDomain | None:
        if name not in self._domains:
            self._domains[name] = find_domain(self.reader, name)
        return self._domains[name]

    def _find(self, domain: LocalDomain, local_part: str) -> Row | None:
        row = self.reader.row(_ADDRESS_WITH_ACCOUNT, domain=domain.id, local_part=local_part)
        if row is None:
            base = without_detail(self.house, local_part)
            if base != local_part:
                row = self.reader.row(_ADDRESS_WITH_ACCOUNT, domain=domain.id, local_part=base)
        return row

    def _targets(self, address_id: int) -> list[str]:
        rows = self.reader.rows(
            "SELECT target FROM alias_target WHERE address = :address ORDER BY position", address=address_id
        )
        return [row[0] for row in rows]

    def _follow(self, domain: LocalDomain, local_part: str, targets: list[str], depth: int) -> None:
        self.is_alias = True
        if (domain.id, local_part) in self._seen or depth >= MAX_ALIAS_DEPTH:
            if not (self.accounts or self.remote):
                self.reason = ROUTING_LOOP
            return
        self._seen.add((domain.id, local_part))
        for target in targets:
            if self._is_over:
                return
            self.expand(parse_address(target), depth + 1)
            self._count()

    def _add_account(self, row: Row) -> None:
        if row[0] is None or row[2] != "active":
            self.reason = MAILBOX_DISABLED
        elif row[0] not in self.accounts:
            self.accounts[row[0]] = _account(row)

    def _add_guard(self, domain: LocalDomain | None) -> None:
        guard = _postmaster(self.reader, domain)
        if guard is not None:
            self.accounts[guard.id] = guard

    def _expand_own_name(self, address: Address) -> None:
        # RFC 5321 §4.5.1: postmaster works at the host's own name too, although no mail domain may be there.
        if fold(address.local_part) in RESERVED:
            self.is_alias = True
            self._add_guard(None)

    def _count(self) -> None:
        if len(self.accounts) + len(self.remote) > MAX_ALIAS_TARGETS or self._steps > MAX_ALIAS_STEPS:
            self._is_over = True
            self.reason = TOO_MANY_RECIPIENTS


def _address_row(reader: Reader, domain: int, local_part: str) -> Row | None:
    return reader.row(
        "SELECT id, kind, account, local_part FROM address WHERE domain = :domain AND local_part = :local_part",
        domain=domain,
        local_part=local_part,
    )


_ACCOUNT = (
    "SELECT a.id, a.name, a.state, a.quota, a.language, a.is_admin, m.id FROM account a"
    " JOIN mailbox m ON m.account = a.id AND m.name = 'INBOX'"
)

# The same columns behind those of the address; empty for an alias.
_ADDRESS_WITH_ACCOUNT = (
    "SELECT x.id, x.kind, x.account, x.local_part, a.id, a.name, a.state, a.quota, a.language, a.is_admin, m.id"
    " FROM address x LEFT JOIN account a ON a.id = x.account LEFT JOIN mailbox m ON m.account = a.id"
    " AND m.name = 'INBOX' WHERE x.domain = :domain AND x.local_part = :local_part"
)

_GUARD = " WHERE a.state = 'active' ORDER BY a.is_admin DESC, a.created_at, a.id LIMIT 1"
_GUARD_OF_DOMAIN = (
    " WHERE a.state = 'active' AND EXISTS (SELECT 1 FROM address x WHERE x.account = a.id AND x.domain = :domain)"
    " ORDER BY a.is_admin DESC, a.created_at, a.id LIMIT 1"
)


def _account(row: Row) -> Account:
    account_id, name, state, quota, language, is_admin, inbox = row
    return Account(account_id, name, parse_address(name), state == "active", quota, language, bool(is_admin), inbox)


def _postmaster(reader: Reader, domain: LocalDomain | None) -> Account | None:
    """Who answers for a domain: its first administrator, else its oldest account, else the server's."""
    row = None if domain is None else reader.row(_ACCOUNT + _GUARD_OF_DOMAIN, domain=domain.id)
    if row is None:
        row = reader.row(_ACCOUNT + _GUARD)
    return None if row is None else _account(row)
