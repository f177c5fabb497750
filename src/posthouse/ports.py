# SPDX-License-Identifier: Apache-2.0
"""Every seam of the house on one page: what the inside may ask of the machine and the network.

`app.py` joins each port to an implementation; `sim/` joins them to a simulated world. A port has at most
about ten methods; a new one needs an ADR. Times are seconds since the epoch as float unless said otherwise.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from posthouse.mail.envelope import Envelope, TlsWish
from posthouse.outcome import Outcome

T = TypeVar("T")
Value = int | float | str | bytes | None
Row = tuple[Any, ...]
Buffer = bytes | bytearray | memoryview
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


# --- time, chance, threads ------------------------------------------------------------------------


class Clock(Protocol):
    def wall(self) -> float:
        """Seconds since the epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps."""


class Entropy(Protocol):
    def octets(self, count: int) -> bytes:
        """Unpredictable octets (predictable only in a simulation)."""


class Workers(Protocol):
    """Threads, where the inside needs one. Inline in a simulation."""

    async def run(self, function: Callable[[], T], *, pool: str = "disk") -> T:
        """Run a blocking function in a bounded pool: `disk`, `hash` (passwords), `read` (database), `resolve`."""

    def committer(self, commit: Callable[[list[Any]], None]) -> Callable[[Any], None]:
        """Start the one thread that calls `commit(batch)` with everything handed in since its last return.

        The returned function hands one item in, from the loop's thread, without waiting. `commit` answers each
        item itself (see `call_back`). An empty list asks it to do idle work; None ends it.
        """

    def call_back(self, calls: Sequence[Callable[[], None]]) -> None:
        """From a worker thread: run these in the loop's thread, in order, with one wake-up."""

    async def close(self) -> None: ...


# --- disk -----------------------------------------------------------------------------------------


class AppendFile(Protocol):
    """A file that only grows. Writes are not durable before `sync`."""

    size: int

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append all buffers in order (writev), completely, or raise OSError."""

    def sync(self) -> None:
        """fdatasync."""

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """The files of the data directory, apart from the database's own. Paths are absolute."""

    def append(self, path: Path) -> AppendFile:
        """Open for appending; created (0600) when missing."""

    def map(self, path: Path) -> memoryview:
        """The file's present octets, mapped read-only; the view keeps the map alive after unlink."""

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Octets of a file, fewer at its end. Raises OSError where the disk cannot read them: looking at such a
        place through a map would end the process."""

    def names(self, folder: Path) -> list[str]:
        """Sorted names in a folder; empty when there is none."""

    def make_folder(self, folder: Path) -> None:
        """0700, with parents; synced into its parent."""

    def rename(self, old: Path, new: Path) -> None:
        """Atomic within the data directory, durable on return (the folder is synced)."""

    def unlink(self, path: Path) -> None: ...

    def sync_folder(self, folder: Path) -> None: ...

    def free_octets(self, folder: Path) -> int: ...


# --- the store ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobLocation:
    """Where content lies: pack number, offset of its first octet in the pack, length in octets.

    `digest`: SHA-256 of what must lie there, and whoever opens it gets that or DamagedContent; b"": not known.
    """

    pack: int
    offset: int
    length: int
    digest: bytes = field(default=b"", compare=False)


@dataclass(frozen=True, slots=True)
class Content:
    """A letter's octets on their way into the store: in memory, or already durable in a pack of their own.

    Exactly one of `octets` and `sealed` is set. `digest` is SHA-256 over the octets, for integrity;
    b"" asks the unit that stores octets to compute it.
    """

    size: int
    digest: bytes
    octets: bytes | None = None
    sealed: BlobLocation | None = None


class Reader(Protocol):
    """Read access inside one database snapshot. SQL has `:name` parameters."""

    def row(self, sql: str, /, **parameters: Value) -> Row | None: ...

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]: ...


class Transaction(Reader, Protocol):
    """One unit of work. It sees its own changes; it may run twice, so it does nothing but this."""

    def run(self, sql: str, /, **parameters: Value) -> int:
        """Execute; return the number of rows changed."""

    def many(self, sql: str, parameters: Iterable[Mapping[str, Value]], /) -> None: ...

    def add(self, sql: str, rows: Sequence[Mapping[str, Value]], /) -> None:
        """Insert rows, before anything that names their table is run and before the commit. `sql` is a plain
        INSERT INTO table (…) VALUES (…); their keys are new ones, so that they conflict with nothing. A store that
        commits many units together writes the rows of all of them with one statement."""

    def new_id(self) -> int:
        """A new, growing 63-bit id (time-ordered), unique in this store."""

    def append(self, content: Content, note: bytes) -> BlobLocation:
        """Put content into the packs, durable with this unit; `note` is kept beside it for rebuilding."""


class Database(Protocol):
    """Runs units of work and queries; knows no rule of mail."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """Run a unit and return its result once it is durable. `Refusal` and other exceptions of the unit roll
        back that unit alone and are raised here. Raises `StoreFault` when the disk or the database fails."""

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run a query on a consistent snapshot in the reader thread. Return few rows: pages, packed arrays."""

    async def snapshot(self, target: Path) -> None:
        """A consistent copy of the database in one file, while serving."""

    async def close(self) -> None: ...


class StoreFault(Exception):  # noqa: N818 - "fault" is the house's word for what the machine does to us
    """The disk or the database failed; nothing of the unit was stored. `is_full`: for want of space."""

    def __init__(self, text: str, *, is_full: bool = False) -> None:
        super().__init__(text)
        self.is_full = is_full


class DamagedContent(StoreFault):
    """The octets are gone, or are not those that were stored. Trying again does not help: `check --store` says whose
    letter it is, and a backup may have it."""


class Conflict(Exception):  # noqa: N818 - an answer, not a fault
    """A unit broke a rule of the schema (unique, foreign key, check) and was rolled back, alone."""


class Spool(Protocol):
    """Large content while it arrives: written to a pack of its own, chunk by chunk."""

    async def write(self, chunk: Buffer) -> None: ...

    async def seal(self) -> BlobLocation:
        """Make it durable and part of the store (unreferenced until a unit refers to it)."""

    async def discard(self) -> None: ...


class BlobStore(Protocol):
    """Content by location. Writing small content goes through `Transaction.append`."""

    async def open(self, location: BlobLocation) -> memoryview:
        """The octets; the view holds its pack open. Raises StoreFault, DamagedContent when they are not what was put
        there (see BlobLocation.digest), or their pack is missing or short."""

    async def open_all(self, locations: Sequence[BlobLocation]) -> list[memoryview | StoreFault]:
        """`open` of many at once, in their order; in the place of what cannot be opened stands its fault."""

    async def beginning(self, location: BlobLocation, octets: int) -> bytes:
        """The first octets as they lie there: nothing behind them is read, so that nobody knows whether they are what
        was put there. Raises StoreFault, DamagedContent when there are not so many."""

    def spool(self) -> Spool: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """A hint that something changed: `topic` is "directory", "queue", "account" (what is in its mailboxes) or
    "credentials" (who logged in before may not be welcome any more); `key` the account id or 0."""

    topic: str
    key: int = 0


class ChangeBus(Protocol):
    """Hints after commit; the journal is the truth."""

    def publish(self, change: Change) -> None: ...

    def subscribe(self, topic: str, key: int, told: Callable[[Change], None]) -> Callable[[], None]:
        """Call `told` in the loop's thread for each such change (key 0: all keys); returns the unsubscriber."""


# --- names and other servers ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MxRecord:
    preference: int
    host: str  # A-label, lower case, no final dot; "" is the null MX of RFC 7505


class NameNotFound(Exception):  # noqa: N818 - an answer of DNS, not a fault
    """NXDOMAIN: the name does not exist. (A name without such records gives an empty list.)"""


class ResolverFault(Exception):  # noqa: N818 - as StoreFault
    """SERVFAIL, time-out, no server: nothing is known, try later."""


class Resolver(Protocol):
    """DNS. All methods raise NameNotFound or ResolverFault. Answers are cached by their TTL."""

    async def mx(self, domain: str) -> list[MxRecord]: ...

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        """AAAA and A; with `version` (4 or 6) that kind alone, as SPF asks (RFC 7208 §5)."""

    async def txt(self, name: str) -> list[bytes]: ...

    async def names(self, address: IPAddress) -> list[str]:
        """PTR."""

    async def records(self, name: str, kind: str) -> list[str]:
        """Of any type ("SRV", "CAA", "TLSA"), as in a zone file: names absolute with their final dot. CNAME gives the
        name's own alias; for other types aliases are followed."""


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """One record of a zone. `name` as in MxRecord, `kind` in upper case, `value` as zone files have it, with absolute
    names; a TXT record's strings joined and without quotes."""

    name: str
    kind: str
    value: str
    ttl: int = field(default=3600, compare=False)


class ZoneFault(Exception):  # noqa: N818 - as StoreFault
    """The zone was not changed, or nothing is known about it. The text says why and what to do."""


class ZoneChanged(ZoneFault):
    """Somebody else changed the same records meanwhile; nothing was done."""


class ZoneEditor(Protocol):
    """Writes into zones at their primary server (RFC 2136). All methods raise ZoneFault."""

    async def zone_of(self, name: str) -> str:
        """The zone that a name belongs to."""

    async def records(self, name: str, kind: str) -> list[ZoneRecord]:
        """What the primary server has now, past every cache; a CNAME where that stands instead."""

    async def change(
        self,
        zone: str,
        *,
        add: Sequence[ZoneRecord],
        remove: Sequence[ZoneRecord],
        seen: Mapping[tuple[str, str], Sequence[ZoneRecord]] | None = None,
    ) -> None:
        """All of it or nothing. `seen`: per (name, kind) what `records` gave; ZoneChanged where that is not so any
        more. Removing what is not there and adding what is there are no faults."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one authoritative server says. `records` is None where it does not answer."""

    server: str
    records: tuple[ZoneRecord, ...] | None


class PublicDns(Protocol):
    """What the world can see of a zone, asked of its authoritative servers, past every cache."""

    async def shown(self, name: str, kind: str) -> list[Shown]:
        """One for each name server. Raises ZoneFault where these cannot be found."""

    async def canonical(self, name: str) -> str:
        """Where CNAME records lead; the name itself where there is none. Raises ZoneFault."""


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """Which certificate is good for a service (RFC 6698 §2.1). The numbers are as they came, known or not."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class Proven(Generic[T]):
    """Records with what DNSSEC says of them. `is_authentic`: every step to them was signed and validated, by a
    resolver whose word is taken; `name`: where they lie, at the end of all aliases."""

    records: tuple[T, ...]
    is_authentic: bool
    name: str


class SecureResolver(Resolver, Protocol):
    """DNS for those who must know whether an answer can be believed (DANE). Methods raise as Resolver's."""

    async def proven_mx(self, domain: str) -> Proven[MxRecord]: ...

    async def proven_addresses(self, host: str) -> Proven[IPAddress]: ...

    async def proven_alias(self, host: str) -> Proven[str]:
        """CNAME, of this very name: whether its zone is signed although what it leads to is not."""

    async def tlsa(self, name: str) -> Proven[TlsaRecord]: ...

    async def distrust(self) -> str:
        """Why no answer is authentic here, in words for the operator; "" where DNSSEC works."""

    async def passed_over(self) -> list[str]:
        """Name servers that are configured and not asked, as their answers would take the place of better ones."""


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What a TLS handshake agreed on. `binding` is the tls-server-end-point value where it is known."""

    version: str  # "TLSv1.3"
    cipher: str
    server_name: str | None = None  # SNI
    is_verified: bool = False  # the peer's certificate chain and name were checked, or its key by DANE
    binding: bytes | None = None
    trust: str = ""  # by what the peer was authenticated: "DANE-EE", "MTA-STS", …; "" where it was not
    is_way_sure: bool = False  # the host's own name is known for sure too: signed MX, MTA-STS, or the operator's word

    @property
    def words(self) -> str:
        """For people and the history: `TLSv1.3 (DANE-EE)`."""
        return f"{self.version} ({self.trust})" if self.trust else self.version


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of an accepted connection."""

    address: str  # IP text, or "unix"
    port: int
    local_address: str
    local_port: int
    trace: str  # id of this connection in logs and history

    @property
    def is_loopback(self) -> bool:
        """From this machine. 127.0.0.0/8 and ::1; mapped IPv4 addresses do not occur here (see net/peer.py)."""
        return self.address.startswith("127.") or self.address in ("unix", "::1")


@dataclass(frozen=True, slots=True)
class HostProof:
    """What DNSSEC says of the way to a host. `domain`: the next hop, whose policy counts; `host_name`: the host at the
    end of its aliases. `has_mx` False: the host was named by an operator, or is the domain itself."""

    domain: str
    domain_alias: str  # the domain at the end of its aliases
    has_mx: bool
    is_mx_authentic: bool
    host_name: str
    is_host_authentic: bool


@dataclass(frozen=True, slots=True)
class DaneDemand:
    """The TLSA records that the host's certificate must match, and the names that it may bear for a trust anchor."""

    records: tuple[TlsaRecord, ...]
    base: str  # the name under which the records were found, said as SNI (RFC 7672 §8.1)
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One address to try for one next hop. `host` is the name for TLS and diagnostics.

    `tls`: "none", "opportunistic", "require" (any certificate), "verify", "implicit" (TLS first, verified), "dane"
    (by `dane` alone), or "try-verify": as verify, and where that fails as opportunistic. With `dane` set, "verify"
    means both. `proof` None: nothing was asked. `wish` is that of the letters for which the session is made; `trust`
    and `is_way_sure` go into the TlsInfo of a session that was authenticated.
    """

    host: str
    address: str
    port: int = 25
    tls: str = "opportunistic"
    username: str | None = None  # for a smart host
    password: str | None = None
    helo: str = "localhost"
    is_lmtp: bool = False
    proof: HostProof | None = None
    dane: DaneDemand | None = None
    wish: TlsWish = TlsWish.USUAL
    trust: str = ""
    is_way_sure: bool = False


@dataclass(frozen=True, slots=True)
class TlsTrouble:
    """Why TLS did not come about as it should have, in the words of RFC 8460 §4.3: `result` is one of them.
    `is_judged`: host or DNS have shown that it is so; otherwise it may have been the network, and pass."""

    result: str
    reason: str
    sending_ip: str = ""
    is_judged: bool = False


class MailConnection(Protocol):
    """An SMTP session to one host, ready for mail transactions, one at a time."""

    extensions: Mapping[str, str]  # EHLO keyword in upper case -> its parameters
    tls: TlsInfo | None
    trouble: TlsTrouble | None  # what went wrong with TLS before this session came about all the same

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may be tried on it."""

    async def send(self, envelope: Envelope, content: Sequence[Buffer]) -> list[Outcome]:
        """One mail transaction; one outcome per forward-path, in order. Never raises for what the peer does."""

    async def close(self) -> None:
        """QUIT, briefly, then close."""


class ConnectFault(Exception):  # noqa: N818 - as StoreFault
    """No session with that host. `outcome` says why; `host_is_down` that other letters would meet the same. `trouble`:
    what TLSRPT would say of it, None where it is not about TLS. `is_policy`: without the protection that is demanded
    there might be a session."""

    def __init__(
        self,
        outcome: Outcome,
        *,
        host_is_down: bool = True,
        trouble: TlsTrouble | None = None,
        is_policy: bool = False,
    ) -> None:
        super().__init__(outcome.diagnostic)
        self.outcome = outcome
        self.host_is_down = host_is_down
        self.trouble = trouble
        self.is_policy = is_policy


class MailTransport(Protocol):
    def connect(self, target: Target) -> Awaitable[MailConnection]:
        """Connect, greet, EHLO, STARTTLS, AUTH as the target says. Raises ConnectFault."""


@dataclass(frozen=True, slots=True)
class WebReply:
    """What a web server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WebFault(Exception):  # noqa: N818 - as StoreFault
    """No usable answer: no address, no connection, no trusted certificate, too large, too late. The text says which.
    `result`: the TLSRPT word for it (RFC 8460 §4.3), "" where it is not about TLS."""

    def __init__(self, text: str, *, result: str = "") -> None:
        super().__init__(text)
        self.result = result


class WebClient(Protocol):
    """HTTPS to other people's servers: certificates are always verified, redirects never followed."""

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        """An answer of at most `limit` octets within `seconds`. Raises WebFault."""

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        """As get."""
