# SPDX-License-Identifier: Apache-2.0
"""Is a letter from whom it says? SPF, iprev, DKIM, ARC and DMARC of one arriving letter, while it arrives.

Invariant: whatever DNS does, `findings` comes within MAX_WAIT of the letter's end, and what is not known then is a
temperror; after `close` nothing of a check is left running.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from posthouse.mail.envelope import ReversePath
from posthouse.mail.header import scan_header
from posthouse.mailauth.arc import ArcCheck, Chain, ChainResult
from posthouse.mailauth.author import Authors, authors_of
from posthouse.mailauth.canonical import RELAXED, BodyHash
from posthouse.mailauth.dkim_verify import DkimCheck, Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, judge_authors
from posthouse.mailauth.iprev import IprevResult, IprevVerdict, check_iprev
from posthouse.mailauth.organization import TreeWalk
from posthouse.mailauth.results import remove_claimed
from posthouse.mailauth.signatures import BodyForm
from posthouse.mailauth.spf import SpfResult, SpfVerdict, check_hello, check_mail_from
from posthouse.ports import Clock, IPAddress, MxRecord, NameNotFound, Peer, Resolver, ResolverFault
from posthouse.services.transaction import Client

# Seconds from the end of the content until the answer must be known. Clients wait for ten minutes (RFC 5321
# §4.5.3.2.6), but every one that waits holds a session; one question to DNS is given up after 12 seconds, so that one
# dead name server is told by its name and several together are not waited for.
MAX_WAIT = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Custody:
    """What a seal needs of a letter that is passed on: its header as it came, the hash of its body in relaxed form, the
    chain so far and how to read it."""

    header: bytes
    body: BodyHash
    check: ArcCheck
    chain: Chain


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found about one letter. `dmarc` has the verdict to act on first. `voucher`: a trusted sealer that
    has seen the author pass where DMARC fails now, "" without. `custody`: of a letter that is passed on."""

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
        self._hostname = hostname
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
            client,
            path,
            now=self._clock.wall(),
            receiver=self._hostname,
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
        client: Client,
        path: ReversePath,
        *,
        now: float,
        receiver: str,
        own: Sequence[str],
        trusted: Collection[str],
        is_forwarded: bool = False,
    ) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dns = _LetterDns(resolver, self._tasks)
        self._now = now
        self._own = own
        self._trusted = trusted
        self._address = ipaddress.ip_address(client.peer.address)
        self._hello = client.hello
        self._sender = "" if path.address is None else str(path.address)
        self._receiver = receiver
        self._dkim = DkimCheck(b"")
        self._arc = ArcCheck(b"")
        self._authors = Authors((), "the letter has no From field")
        self._from_fields = 0
        self._is_forwarded = is_forwarded
        self._header = b""
        self._relaxed: BodyHash | None = None  # of a letter that is passed on, where no signature has it made already
        self._keys: dict[str, asyncio.Task[list[bytes]]] = {}
        self._spf = self._spawn(self._check_spf())
        self._iprev = self._spawn(check_iprev(self._dns, self._address))

    def foresee(self, header: bytes) -> None:
        """What looks like the header, while the rest of a small letter may still be coming: DNS is asked meanwhile."""
        self._read(header)

    def read_header(self, header: bytes) -> bytes:
        """Look at the header as it came, begin to ask for what it needs, and return it without what others have
        written in our name."""
        if header != self._header:
            self._read(header)
        return remove_claimed(header, self._own)

    def _read(self, header: bytes) -> None:
        self._dkim = DkimCheck(header, now=self._now)
        self._arc = ArcCheck(header)
        self._header = header
        self._relaxed = BodyHash() if self._is_forwarded and self._shared_hash() is None else None
        scan = scan_header(header)
        self._authors = authors_of(scan)
        self._from_fields = scan.count(b"from")
        self._keys.clear()
        for name in (*self._dkim.key_names, *self._arc.key_names):
            self._keys[name] = self._dns.ask(name)
        for domain in self._authors.domains:
            # Its answers are kept for the judgement; what went wrong comes up there again.
            self._spawn(TreeWalk(self._dns).policy_for(domain))

    def update(self, chunk: bytes) -> None:
        """Of the body, behind the empty line."""
        self._dkim.update(chunk)
        if self._arc.has_chain:
            self._arc.update(chunk)
        if self._relaxed is not None:
            self._relaxed.update(chunk)

    async def findings(self) -> Findings:
        """After the whole letter."""
        deadline = asyncio.get_running_loop().time() + MAX_WAIT
        await asyncio.wait({self._spf, self._iprev, *self._keys.values()}, timeout=MAX_WAIT)
        spf = _done(self._spf) or SpfVerdict(SpfResult.TEMPERROR, self._spf_domain, self._spf_identity, reason=_LATE)
        iprev = _done(self._iprev) or IprevVerdict(IprevResult.TEMPERROR, self._address, reason=_LATE)
        records = {name: _key_record(task) for name, task in self._keys.items() if _is_known(task)}
        signatures = tuple(self._dkim.judge(records))
        chain = self._arc.judge(records)
        try:
            async with asyncio.timeout_at(deadline):
                dmarc = await judge_authors(self._dns, self._authors, spf, signatures)
        except TimeoutError:
            dmarc = tuple(DmarcVerdict(DmarcResult.TEMPERROR, domain, _LATE) for domain in self._authors.domains)
        return Findings(
            self._address,
            spf,
            iprev,
            signatures,
            chain,
            self._authors,
            self._from_fields,
            dmarc,
            self._voucher(chain, dmarc),
            self._custody(chain),
        )

    async def close(self) -> None:
        """Nothing is waited for any more. To be called once, whatever has become of the letter."""
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # nobody may have asked for it

    # --- parts ------------------------------------------------------------------------------------

    @property
    def _spf_identity(self) -> str:
        return "mailfrom" if self._sender else "helo"

    @property
    def _spf_domain(self) -> str:
        return self._sender.rpartition("@")[2] or self._hello

    async def _check_spf(self) -> SpfVerdict:
        # The null sender's MAIL FROM identity is that of the HELO (RFC 7208 §2.4), and is told as such.
        if not self._sender:
            return await check_hello(self._dns, self._address, self._hello, receiver=self._receiver, now=self._now)
        return await check_mail_from(
            self._dns, self._address, self._sender, self._hello, receiver=self._receiver, now=self._now
        )

    def _shared_hash(self) -> BodyHash | None:
        """Of the whole body in relaxed form, where a signature is over that."""
        return self._dkim.hashes.get(_WHOLE) or self._arc.hashes.get(_WHOLE)

    def _custody(self, chain: Chain) -> Custody | None:
        body = self._shared_hash() or self._relaxed
        return Custody(self._header, body, self._arc, chain) if self._is_forwarded and body is not None else None

    def _voucher(self, chain: Chain, dmarc: Sequence[DmarcVerdict]) -> str:
        """Trusted sealers are looked at from the newest on, up to the first that is not: whoever comes before may
        have written what the letter says now."""
        if chain.result is not ChainResult.PASS or len(dmarc) != 1 or dmarc[0].result is not DmarcResult.FAIL:
            return ""
        for instance in range(chain.count, 0, -1):
            sealer = chain.sealers[instance - 1]
            if sealer not in self._trusted:
                return ""
            said = self._arc.results_of(instance)
            for each in said.statements if said is not None else ():
                is_pass = each.method == "dmarc" and each.result == "pass"
                if is_pass and each.get("header", "from").lower() == dmarc[0].author:
                    return sealer
        return ""

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task


class _LetterDns:
    """The Resolver for one letter: the same TXT record is asked for once, and begins to be before it is needed."""

    def __init__(self, resolver: Resolver, tasks: set[asyncio.Task[Any]]) -> None:
        self._resolver = resolver
        self._tasks = tasks
        self._texts: dict[str, asyncio.Task[list[bytes]]] = {}

    def ask(self, name: str) -> asyncio.Task[list[bytes]]:
        task = self._texts.get(name)
        if task is None:
            task = self._texts[name] = asyncio.create_task(self._text(name))
            self._tasks.add(task)
        return task

    async def _text(self, name: str) -> list[bytes]:
        return await self._resolver.txt(name)

    async def txt(self, name: str) -> list[bytes]:
        # Shielded: a check that has run out of time must not take the answer from the others.
        return await asyncio.shield(self.ask(name))

    async def mx(self, domain: str) -> list[MxRecord]:
        return await self._resolver.mx(domain)

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        return await self._resolver.addresses(host, version)

    async def names(self, address: IPAddress) -> list[str]:
        return await self._resolver.names(address)


_WHOLE = BodyForm(RELAXED)
_LATE = f"no result in {MAX_WAIT:.0f} seconds"


def _done(task: asyncio.Task[T]) -> T | None:
    return task.result() if task.done() else None


def _is_known(task: asyncio.Task[list[bytes]]) -> bool:
    """Whether DNS has said what is there, or that nothing is."""
    return task.done() and not isinstance(task.exception(), ResolverFault)


def _key_record(task: asyncio.Task[list[bytes]]) -> bytes | None:
    try:
        texts = task.result()
    except NameNotFound:
        return None
    return texts[0] if texts else None  # RFC 6376 §3.6.2.2: of several, any may be taken
