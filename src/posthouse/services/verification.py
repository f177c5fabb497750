# SPDX-License-Identifier: Apache-2.0
"""Is a letter from whom it says? SPF, iprev, DKIM, ARC and DMARC of one arriving letter, while it arrives.

Invariant: whatever DNS does, `findings` comes within MAX_WAIT of the letter's end, and what is not known then is a
temperror; after `close` nothing of a check is left running.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from posthouse.mail.envelope import ReversePath
from posthouse.mailauth.arc import Chain
from posthouse.mailauth.author import Authors
from posthouse.mailauth.dkim_verify import Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, judge_authors
from posthouse.mailauth.iprev import IprevResult, IprevVerdict
from posthouse.mailauth.organization import TreeWalk, may_be_related
from posthouse.mailauth.results import remove_claimed
from posthouse.mailauth.spf import SpfResult, SpfVerdict
from posthouse.ports import Clock, IPAddress, NameNotFound, Peer, Resolver, ResolverFault
from posthouse.services.client_checks import ClientChecks
from posthouse.services.letter_claims import Custody, LetterClaims
from posthouse.services.letter_dns import LetterDns
from posthouse.services.transaction import Client

# Seconds from the end of the content until the answer must be known. Clients wait for ten minutes (RFC 5321
# §4.5.3.2.6), but every one that waits holds a session; one question to DNS is given up after 12 seconds, so that one
# dead name server is told by its name and several together are not waited for.
MAX_WAIT = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found about one letter. `dmarc` has the verdict to act on first. `voucher` and `custody`: as
    LetterClaims tells them. `would_pass`: Author Domains that are not proven, and for which DMARC might pass at the
    next host because the letter came through here."""

    address: IPAddress
    spf: SpfVerdict
    iprev: IprevVerdict
    signatures: tuple[Verification, ...]
    chain: Chain
    authors: Authors
    from_fields: int
    dmarc: tuple[DmarcVerdict, ...]
    voucher: str = ""
    custody: Custody | None = None
    would_pass: tuple[str, ...] = ()


class Verifier:
    """Begins the checks of letters. `trusted_sealers`: domains whose word counts where a passing chain has it."""

    def __init__(
        self,
        resolver: Resolver,
        clock: Clock,
        *,
        authserv_id: str,
        hostname: str,
        is_on: bool = True,
        includes_loopback: bool = False,
        trusted_sealers: Collection[str] = (),
    ) -> None:
        self.authserv_id = authserv_id
        self._resolver = resolver
        self._clock = clock
        self._clients = ClientChecks(clock, receiver=hostname)
        self._own = tuple(dict.fromkeys((authserv_id, hostname)))
        self._is_on = is_on
        self._includes_loopback = includes_loopback
        self._trusted = frozenset(trusted_sealers)

    def is_exempt(self, peer: Peer) -> bool:
        """A program of this machine: it is trusted, and whom it got the letter from nobody can see."""
        return peer.address == "unix" or (peer.is_loopback and not self._includes_loopback)

    def begin(self, client: Client, path: ReversePath, *, is_forwarded: bool = False) -> LetterCheck | None:
        """When the content begins. None: nothing is checked."""
        if not self._is_on:
            return None
        return LetterCheck(
            self._resolver,
            self._clients,
            client,
            path,
            now=self._clock.wall(),
            own=self._own,
            trusted=self._trusted,
            is_forwarded=is_forwarded,
        )

    def without_claims(self, header: bytes) -> bytes:
        """RFC 8601 §5: nobody else may speak in our name, also where we say nothing ourselves."""
        return remove_claimed(header, self._own)


class LetterCheck:
    """The checks of one letter. `read_header` takes what it is written with, `update` the body as it passes."""

    def __init__(
        self,
        resolver: Resolver,
        clients: ClientChecks,
        client: Client,
        path: ReversePath,
        *,
        now: float,
        own: Sequence[str],
        trusted: Collection[str],
        is_forwarded: bool = False,
    ) -> None:
        self._dns = LetterDns(resolver)
        self._now = now
        self._own = own
        self._trusted = trusted
        self._is_forwarded = is_forwarded
        self._address = ipaddress.ip_address(client.peer.address)
        self._hello = client.hello
        self._sender = "" if path.address is None else str(path.address)
        self._claims: LetterClaims | None = None
        self._keys: dict[str, asyncio.Future[list[bytes]]] = {}
        self._spf = self._dns.begin(partial(clients.spf, self._dns, self._address, self._sender, self._hello))
        self._iprev = self._dns.begin(partial(clients.iprev, self._dns, self._address))

    def foresee(self, header: bytes) -> None:
        """What looks like the header, while the rest of a small letter may still be coming: DNS is asked meanwhile."""
        self._claims = LetterClaims(header, now=self._now, is_forwarded=self._is_forwarded)
        self._keys = {name: self._dns.ask(name) for name in self._claims.key_names}
        for domain in self._claims.authors.domains:
            # Its answers are kept for the judgement; what went wrong comes up there again.
            self._dns.begin(partial(TreeWalk(self._dns).policy_for, domain))

    def read_header(self, header: bytes) -> bytes:
        """Look at the header as it came, begin to ask for what it needs, and return it without what others have
        written in our name."""
        if self._claims is None or header != self._claims.header:
            self.foresee(header)
        return remove_claimed(header, self._own)

    def update(self, chunk: bytes) -> None:
        """Of the body, behind the empty line; after the header."""
        assert self._claims is not None
        self._claims.update(chunk)

    async def findings(self, leaves_as: str = "") -> Findings:
        """After the whole letter. `leaves_as`: in whose name SPF passes at the next host, "" where the letter is not
        passed on, or in none of ours."""
        claims = self._claims
        assert claims is not None
        deadline = asyncio.get_running_loop().time() + MAX_WAIT
        await _wait([self._spf, self._iprev, *self._keys.values()], deadline)
        spf = _done(self._spf) or self._late_spf()
        iprev = _done(self._iprev) or IprevVerdict(IprevResult.TEMPERROR, self._address, reason=_LATE)
        records = {name: _key_record(answer) for name, answer in self._keys.items() if _is_known(answer)}
        signatures = claims.signatures(records)
        chain = claims.chain(records)
        judging = self._dns.begin(partial(judge_authors, self._dns, claims.authors, spf, signatures))
        await _wait([judging], deadline)
        dmarc = _done(judging) or tuple(
            DmarcVerdict(DmarcResult.TEMPERROR, domain, _LATE) for domain in claims.authors.domains
        )
        return Findings(
            self._address,
            spf,
            iprev,
            signatures,
            chain,
            claims.authors,
            claims.from_fields,
            dmarc,
            claims.voucher(chain, dmarc, self._trusted),
            claims.custody(chain),
            await self._would_pass(leaves_as, dmarc, deadline) if leaves_as else (),
        )

    async def _would_pass(self, name: str, dmarc: Sequence[DmarcVerdict], deadline: float) -> tuple[str, ...]:
        """As the next host will judge, who sees SPF pass for this name. Only who may be of its organization is asked
        about; where DNS does not tell, he might pass."""
        unproven = (DmarcResult.FAIL, DmarcResult.TEMPERROR)
        authors = [each.author for each in dmarc if each.result in unproven and may_be_related(each.author, name)]
        if not authors:
            return ()
        spf = SpfVerdict(SpfResult.PASS, name, "mailfrom")
        judging = self._dns.begin(partial(judge_authors, self._dns, Authors(tuple(authors)), spf, ()))
        await _wait([judging], deadline)
        there = _done(judging)
        if there is None:
            return tuple(authors)
        return tuple(each.author for each in there if each.result not in (DmarcResult.FAIL, DmarcResult.NONE))

    def _late_spf(self) -> SpfVerdict:
        domain, identity = (self._sender.rpartition("@")[2], "mailfrom") if self._sender else (self._hello, "helo")
        return SpfVerdict(SpfResult.TEMPERROR, domain, identity, reason=_LATE)

    async def close(self) -> None:
        """Nothing is waited for any more. To be called once, whatever has become of the letter."""
        await self._dns.close()


_LATE = f"no result in {MAX_WAIT:.0f} seconds"


async def _wait(answers: Sequence[asyncio.Future[Any]], deadline: float) -> None:
    """Until all are there, or the deadline."""
    missing = [each for each in answers if not each.done()]
    if missing:
        await asyncio.wait(missing, timeout=deadline - asyncio.get_running_loop().time())


def _done(answer: asyncio.Future[T]) -> T | None:
    return answer.result() if answer.done() else None


def _is_known(answer: asyncio.Future[list[bytes]]) -> bool:
    """Whether DNS has said what is there, or that nothing is."""
    return answer.done() and not isinstance(answer.exception(), ResolverFault)


def _key_record(answer: asyncio.Future[list[bytes]]) -> bytes | None:
    try:
        texts = answer.result()
    except NameNotFound:
        return None
    return texts[0] if texts else None  # RFC 6376 §3.6.2.2: of several, any may be taken
