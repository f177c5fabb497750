# SPDX-License-Identifier: Apache-2.0
"""DKIM keys take turns: a new one is made and its record asked for, it signs once DNS has shown that for a while, and
the record of the old one stays until no letter needs it (RFC 6376 §3.1, §5.2).

Invariant: a key never signs before our resolver has seen its record, unless somebody orders it; and whatever is cut off
in between, the next look finds the keys in one of their states and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from posthouse.mailauth.signatures import SignatureFault, parse_tags, public_key
from posthouse.outcome import BAD_DOMAIN, BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import (
    Change,
    ChangeBus,
    Clock,
    Conflict,
    Database,
    NameNotFound,
    Resolver,
    ResolverFault,
    StoreFault,
    Transaction,
)
from posthouse.services.directory import TOPIC
from posthouse.services.findings import Finding
from posthouse.services.host_signing import names_above
from posthouse.services.keys import DomainKeys
from posthouse.store import keys, lookup
from posthouse.store.keys import KeyInfo, KeyState, NewKey
from posthouse.store.sealing import SecretKey
from posthouse.telemetry import logger

# Seconds for which DNS must have shown a record before its key signs: twice the TTL that we print, in which all name
# servers of a zone follow the first one.
SETTLE = 2 * 3600.0
MAX_NAMES = 100  # names whose keys are made anew by age in one look: making an RSA key takes a tenth of a second
# Records of signing keys looked for in one look; the next one goes on behind them.
MAX_WATCHED = 100
OWN_PREFIX = "host"  # of selectors of the host's own keys, so that a domain of the same name finds none taken
COMMAND = "posthouse domain keys"


@dataclass(frozen=True, slots=True)
class RotationTerms:
    """Seconds. `every`: how old a key becomes before another is made, None: until somebody asks. `keep`: how long the
    record of a retired key stays."""

    every: float | None = None
    keep: float = 14 * 86400.0


class KeyRotation:
    def __init__(
        self,
        database: Database,
        bus: ChangeBus,
        domain_keys: DomainKeys,
        resolver: Resolver,
        clock: Clock,
        key: SecretKey,
        *,
        hostname: str,
        terms: RotationTerms,
    ) -> None:
        self._database = database
        self._bus = bus
        self._domain_keys = domain_keys
        self._resolver = resolver
        self._clock = clock
        self._key = key
        self._hostname = hostname
        self.terms = terms
        self._begun: dict[tuple[int, float], float] = {}  # (key, wall time) -> the same moment by the monotonic clock
        self._lost: dict[int, KeyInfo] = {}  # keys that sign, and whose records DNS has shown no more
        self._watched = 0  # the last of the keys that were looked for
        self._log = logger("keys")

    # --- what an administrator asks for -----------------------------------------------------------

    async def keys_of(self, name: str) -> list[KeyInfo]:
        """Raises Refusal for a name that has none and is not served here."""
        found = await self._infos(name)
        if not found and await self._domain_id(name) is None and name != self._hostname:
            raise Refusal(BAD_DOMAIN, f"the domain {name} is not served here")
        return found

    async def rotate(self, name: str) -> list[KeyInfo]:
        """Make the next keys of a name; they wait for their records. Raises Refusal."""
        known = await self.keys_of(name)
        waiting = [each.selector for each in known if each.state is KeyState.PUBLISHED]
        if waiting:
            raise Refusal(INVALID_ARGUMENTS, f"{name} has keys already that wait for their records: {_and(waiting)}")
        domain = await self._domain_id(name)
        now = self._clock.wall()
        prefix = "ph" if domain is not None else OWN_PREFIX
        made = await self._domain_keys.make(now, taken={each.selector for each in known}, prefix=prefix)
        await self._change(partial(self._add, name=name, domain=domain, made=made, now=now))
        self._log.info("keys made", domain=name, selectors=[each.selector for each in made])
        selectors = {each.selector for each in made}
        return [each for each in await self._infos(name) if each.selector in selectors]

    async def activate(self, name: str, *, unseen: bool = False) -> list[KeyInfo]:
        """The waiting keys of a name sign from now on, without more waiting; those whose records DNS does not show only
        if `unseen`. Which ones do. Raises Refusal."""
        waiting = [each for each in await self.keys_of(name) if each.state is KeyState.PUBLISHED]
        if not waiting:
            raise Refusal(INVALID_ARGUMENTS, f"no key of {name} waits; `{COMMAND} rotate {name}` makes the next ones")
        ready = waiting if unseen else [each for each in waiting if await self._is_shown(each)]
        if not ready:
            names = _and([each.record_name for each in waiting])
            hint = "the resolver may remember for some minutes that there was nothing"
            raise Refusal(INVALID_ARGUMENTS, f"DNS does not show {names} yet; {hint}")
        for each in ready:
            await self._activate(each)
        numbers = {each.id for each in ready}
        return [each for each in await self._infos(name) if each.id in numbers]

    async def remove(self, name: str, selector: str) -> None:
        """Forget a key that does not sign. Raises Refusal."""
        found = next((each for each in await self.keys_of(name) if each.selector == selector), None)
        if found is None:
            raise Refusal(BAD_MAILBOX, f"{name} has no key with the selector {selector}")
        if not await self._change(lambda tx: keys.forget_key(tx, found.id)):
            raise Refusal(INVALID_ARGUMENTS, f"{selector} signs letters; make others first: `{COMMAND} rotate {name}`")
        self._log.info("key removed", domain=name, selector=selector)

    async def findings(self, name: str) -> list[Finding]:
        """What an administrator is to do about the keys of a domain, and of the host's own name, now."""
        found = []
        for each in await self._infos(None):
            if each.domain != name and not each.is_own:
                continue
            if each.state is KeyState.PUBLISHED and each.seen_at is None:
                text = f"the key {each.selector} of {each.domain} waits for its record; the one before it signs"
                if each.is_own:
                    text = f"the host's own key {each.selector} waits for its record; reports are not signed before"
                remedy = f"add the record {each.record_name}; `{COMMAND} list {each.domain}` prints it"
                found.append(Finding("keys", "warning", text, remedy))
            elif each.is_active and each.is_own and await self._is_shown(each) is False:
                text = f"DNS does not show the host's own key {each.selector}; signatures of reports fail"
                remedy = f"add the record {each.record_name}; `{COMMAND} list {each.domain}` prints it"
                found.append(Finding("keys", "error", text, remedy))
            elif each.state is KeyState.WITHDRAWN:
                text = f"nobody needs the old key {each.selector} of {each.domain} any more"
                found.append(Finding("keys", "warning", text, f"take {each.record_name} out of DNS"))
        return found

    def lost(self) -> list[Finding]:
        """Of the keys that sign for any domain, those whose records were missing when they were last looked for."""
        return [
            Finding(
                "keys",
                "error",
                f"DNS does not show the key {each.selector} of {each.domain}; its signatures fail",
                f"add the record {each.record_name}; `{COMMAND} list {each.domain}` prints it",
            )
            for each in self._lost.values()
        ]

    # --- what happens by itself -------------------------------------------------------------------

    async def begin(self) -> None:
        """When the server starts, which nothing here may keep it from."""
        try:
            await self.ensure_own_key()
        except (StoreFault, Conflict, Refusal) as fault:
            self._log.error("no key of the host's own", reason=str(fault))

    async def step(self) -> None:
        """Do what is due; called every hour."""
        await self.ensure_own_key()
        for name in await self._due_by_age():
            try:
                await self.rotate(name)
            except (Refusal, Conflict) as reason:  # removed, or somebody was faster; the others are due all the same
                self._log.warning("no new keys", domain=name, reason=str(reason))
            else:
                self._log.warning("new keys by age: their records are to be added to DNS", domain=name)
        found = await self._infos(None)
        for each in found:
            match each.state:
                case KeyState.PUBLISHED:
                    await self._look_for(each)
                case KeyState.RETIRED if self._passed(each, each.changed_at) >= self.terms.keep:
                    await self._change(partial(keys.withdraw_key, key_id=each.id, now=self._clock.wall()))
                    self._log.warning("this record may be taken out of DNS", record=each.record_name)
                case KeyState.WITHDRAWN if await self._is_gone(each):
                    await self._change(partial(keys.forget_key, key_id=each.id))
                    self._log.info("key forgotten", domain=each.domain, selector=each.selector)
        await self._watch([each for each in found if each.is_active])
        known = {(each.id, at) for each in await self._infos(None) for at in (each.seen_at, each.changed_at)}
        self._begun = {moment: begun for moment, begun in self._begun.items() if moment in known}

    async def ensure_own_key(self) -> None:
        """Where no domain with keys is above the host's name, the host gets keys of its own; where one has come, they
        retire: who reads the records of that domain need not ask for others."""
        found = await self._infos(None)
        by_domain = {each.domain for each in found if each.is_active and not each.is_own}
        needless = [each for each in found if each.is_own]
        if by_domain.isdisjoint(names_above(self._hostname)):
            needless = [each for each in needless if each.domain != self._hostname]  # of another name that it once had
            if not any(
                each.domain == self._hostname and each.state in (KeyState.PUBLISHED, KeyState.ACTIVE) for each in found
            ):
                await self.rotate(self._hostname)
        now = self._clock.wall()
        for each in needless:
            if each.state is KeyState.PUBLISHED:
                await self._change(partial(keys.forget_key, key_id=each.id))
            elif each.is_active:
                await self._change(partial(keys.retire_key, key_id=each.id, now=now))

    # --- parts ------------------------------------------------------------------------------------

    async def _due_by_age(self) -> Sequence[str]:
        if self.terms.every is None:
            return ()
        now = self._clock.wall()
        found = await self._infos(None)
        waiting = {each.domain for each in found if each.state is KeyState.PUBLISHED}
        old = {each.domain: None for each in found if each.is_active and now - each.changed_at >= self.terms.every}
        return [name for name in old if name not in waiting][:MAX_NAMES]

    async def _look_for(self, each: KeyInfo) -> None:
        is_shown = await self._is_shown(each)
        now = self._clock.wall()
        if is_shown is None:
            return  # nothing is known; what was seen before counts on
        if not is_shown:
            if each.seen_at is not None:
                await self._change(partial(keys.note_seen, key_id=each.id, at=None))
        elif each.seen_at is None or each.seen_at > now:  # the clock was set back
            await self._change(partial(keys.note_seen, key_id=each.id, at=now))
            self._passed(each, now)
            self._log.info("record seen", record=each.record_name, signs_after=SETTLE)
        elif self._passed(each, each.seen_at) >= SETTLE:
            await self._activate(each)

    def _passed(self, each: KeyInfo, since: float) -> float:
        """Seconds, those of this run by the monotonic clock: for the caches of others no time has passed when our wall
        clock was put forward."""
        now = self._clock.monotonic()
        return now - self._begun.setdefault((each.id, since), now - (self._clock.wall() - since))

    async def _watch(self, active: Sequence[KeyInfo]) -> None:
        """Whether DNS still shows the records of what signs: else signatures fail, and nobody here would know."""
        numbers = {each.id for each in active}
        self._lost = {number: each for number, each in self._lost.items() if number in numbers}
        part = [each for each in active if each.id > self._watched][:MAX_WATCHED]
        self._watched = 0
        for each in part:
            is_shown = await self._is_shown(each)
            if is_shown is None or (each is part[-1] and len(part) == MAX_WATCHED):
                self._watched = each.id  # DNS that is silent costs one wait in an hour, and the others come next time
            if is_shown is None:
                return
            if is_shown and self._lost.pop(each.id, None) is not None:
                self._log.info("record seen again", record=each.record_name)
            elif not is_shown and each.id not in self._lost:
                self._lost[each.id] = each
                self._log.warning("DNS does not show the record of a key that signs", record=each.record_name)

    async def _is_shown(self, each: KeyInfo) -> bool | None:
        """Whether DNS shows the record as it should be and no other beside it: of several, any may be taken (RFC 6376
        §3.6.2.2). None: it does not say."""
        texts = await self._texts(each)
        return None if texts is None else bool(texts) and all(_is_of(text, each) for text in texts)

    async def _is_gone(self, each: KeyInfo) -> bool:
        texts = await self._texts(each)
        return texts is not None and not any(_is_of(text, each) for text in texts)

    async def _texts(self, each: KeyInfo) -> list[bytes] | None:
        try:
            return await self._resolver.txt(each.record_name)
        except NameNotFound:
            return []
        except ResolverFault as fault:
            self._log.warning("DNS does not answer", record=each.record_name, reason=str(fault))
            return None

    async def _activate(self, each: KeyInfo) -> None:
        now = self._clock.wall()
        if await self._change(partial(keys.activate_key, key_id=each.id, now=now)):
            self._log.info("key signs from now on", domain=each.domain, selector=each.selector)

    def _add(self, tx: Transaction, *, name: str, domain: int | None, made: Sequence[NewKey], now: float) -> None:
        for each in made:
            if domain is None:
                keys.add_own_key(tx, self._key, name, each, now)
            else:
                keys.add_key(tx, self._key, domain, each, now, state=KeyState.PUBLISHED)

    async def _infos(self, name: str | None) -> list[KeyInfo]:
        return await self._database.read(partial(keys.infos, domain=name))

    async def _domain_id(self, name: str) -> int | None:
        return await self._database.read(partial(lookup.domain_id, name=name))

    async def _change(self, unit: Callable[[Transaction], bool | None]) -> bool:
        done = await self._database.write(unit)
        self._bus.publish(Change(TOPIC))
        return bool(done)


def _is_of(text: bytes, each: KeyInfo) -> bool:
    """Whether this is a record by which our signatures can be verified: k=, h= and s= may say otherwise."""
    signature = {
        b"a": f"{each.algorithm}-sha256".encode(),
        b"d": each.domain.encode(),
        b"s": each.selector.encode(),
    }
    try:
        public_key({each.record_name: text}, signature)
        return b"".join(parse_tags(text)[b"p"].split()) == each.public_key.encode()
    except SignatureFault:
        return False


def _and(words: Sequence[str]) -> str:
    return ", ".join(words)
