# SPDX-License-Identifier: Apache-2.0
"""Our account at an authority: made at the first need, found again later, with the contact that the settings have.

Invariant: the key is durable before the authority hears of it; a lost URL is found again with the key.
"""

from __future__ import annotations

from functools import partial

from posthouse.ports import Clock, Entropy, WebClient, Workers
from posthouse.services.acme.client import AcmeClient
from posthouse.services.acme.jws import AccountKey, make_ec_key
from posthouse.services.certificate_shelf import Account, CertificateShelf
from posthouse.services.certificate_terms import Authority
from posthouse.telemetry import logger

_log = logger("acme")


class Accounts:
    def __init__(
        self,
        shelf: CertificateShelf,
        authority: Authority,
        web: WebClient,
        *,
        clock: Clock,
        entropy: Entropy,
        workers: Workers,
    ) -> None:
        self._shelf = shelf
        self._authority = authority
        self._web = web
        self._clock = clock
        self._entropy = entropy
        self._workers = workers

    async def stranger(self) -> AcmeClient:
        """For questions that need no account. Raises StoreFault."""
        return AcmeClient(self._web, self._clock, self._authority.directory, await self._key())

    def bearer(self, key: AccountKey) -> AcmeClient:
        """In the name of a key itself; without an account."""
        return AcmeClient(self._web, self._clock, self._authority.directory, key)

    async def client(self) -> AcmeClient:
        """With our account. Raises AcmeFault, StoreFault."""
        authority = self._authority
        client = await self.stranger()
        accounts = await self._workers.run(self._shelf.accounts)
        known = accounts.get(authority.directory)
        contact = list(authority.contact)
        if known is None:
            binding = (authority.key_id, authority.mac_key) if authority.key_id else None
            url = await client.register(contact, binding=binding)
            known = Account(url, contact, authority.key_id)
            await self._keep(accounts | {authority.directory: known})
            _log.info("account made", directory=authority.directory, account=url)
        client.account = known.url
        if known.contact != contact:
            await client.set_contact(contact)
            await self._keep(accounts | {authority.directory: Account(known.url, contact, known.key_id)})
        return client

    async def forget(self) -> None:
        """The authority does not know the account any more; the next `client` makes one."""
        accounts = await self._workers.run(self._shelf.accounts)
        accounts.pop(self._authority.directory, None)
        await self._keep(accounts)

    async def _key(self) -> AccountKey:
        key = await self._workers.run(self._shelf.account_key)
        if key is None:
            await self._keep({})  # accounts of a key that somebody has removed
            key = AccountKey(make_ec_key(self._entropy))
            await self._workers.run(partial(self._shelf.keep_account_key, key))
        return key

    async def _keep(self, accounts: dict[str, Account]) -> None:
        await self._workers.run(partial(self._shelf.keep_accounts, accounts))
