# SPDX-License-Identifier: Apache-2.0
"""The house with its doors: listeners, the relay, the control socket, housekeeping; start, reload, drain.

Invariant: after `stop` nothing listens, every acknowledged letter is durable, and no task of ours is left.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from posthouse import config
from posthouse.app import House
from posthouse.composing.incoming import entry_check_of
from posthouse.composing.outgoing import schedules_of, static_routes
from posthouse.composing.trust import forwarding_domain, rotation_terms
from posthouse.composing.web import policy_of
from posthouse.config import Settings
from posthouse.edges.imap.session import ImapSession
from posthouse.edges.imap.terms import ImapTerms
from posthouse.edges.pop3 import Pop3Session, Pop3Terms
from posthouse.edges.smtp import Office, Role, SmtpSession, SmtpTerms
from posthouse.edges.smtp_replies import unwelcome
from posthouse.net.admission import Admission
from posthouse.net.listener import DEFAULT_LIMITS, Endpoint, Listener
from posthouse.net.session import ConnectionLimits, SessionFactory, TlsUpgrader
from posthouse.ports import Peer, TlsInfo
from posthouse.protocol.imap.admission import Terms as EngineTerms
from posthouse.protocol.imap.server import ImapServer
from posthouse.protocol.pop3.server import Pop3Server
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.server import SmtpServer
from posthouse.services.compaction import Compaction
from posthouse.services.housekeeping import Housekeeping
from posthouse.services.transaction import Client
from posthouse.telemetry import logger

LOOPBACK = tuple(ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1/128"))
# The sections that a reload takes over, and what of them is read at the start alone.
_TAKEN_OVER = frozenset({"routes", "queue", "authentication", "forwarding", "signing", "transport", "mta_sts"})
_READ_AT_THE_START = frozenset({"queue.connections", "queue.history", "transport.requiretls", "transport.private_web"})


@dataclass(frozen=True, slots=True)
class Service:
    """One key of [listen] that is built: how its sessions are made."""

    name: str
    is_implicit_tls: bool
    limits: config.Smtp | config.Pop3 | config.Imap
    new_session: SessionFactory
    refusal: Callable[[Peer, str], bytes]


class Server:
    """`endpoints`: for each key of [listen], bound sockets (or host and port in a simulated world)."""

    def __init__(
        self,
        house: House,
        endpoints: Mapping[str, Sequence[Endpoint]],
        tls: TlsUpgrader,
        *,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        descriptors: int | None = None,
    ) -> None:
        """`descriptors`: how many connections the system has file descriptors for; None: no such limit."""
        self.house = house
        self._tls = tls
        self._log = logger("server")
        settings = house.settings
        sections = (settings.smtp, settings.pop3, settings.imap)
        admissions = {id(section): admission_of(section, descriptors) for section in sections}
        self.listeners = [
            Listener(
                service.name,
                endpoints[service.name],
                service.new_session,
                entropy=house.machine.entropy,
                admission=admissions[id(service.limits)],
                refusal=service.refusal,
                tls=tls,
                is_implicit_tls=service.is_implicit_tls,
                limits=limits,
            )
            for service in services_of(house)
            if endpoints.get(service.name)
        ]
        self._housekeeping = Housekeeping(
            house.database,
            house.queue_desk,
            house.machine.clock,
            Compaction(
                house.database,
                house.blobs,
                house.workers,
                house.machine.clock,
                days=settings.store.keep_dead / 86400,
            ),
            folder=house.folder / "snapshots",
            disk=house.machine.disk,
            workers=house.workers,
            store=settings.store,
            keep_history=settings.queue.history,
            chores=(house.key_rotation.step,),
        )

    async def start(self) -> None:
        for listener in self.listeners:
            await listener.start()
        self.house.room.start()
        await self.house.relay.start()
        await self.house.key_rotation.begin()
        self._housekeeping.start()
        self.house.certificates.start()
        self.house.reports.start()
        ports = {listener.name: listener.ports for listener in self.listeners}
        self._log.info("serving", hostname=self.house.settings.hostname, **{k: v for k, v in ports.items() if v})

    def _reload_trust(self, settings: Settings) -> None:
        house = self.house
        settings = settings.model_copy(update={"hostname": house.settings.hostname})  # a new one needs a restart
        house.reception.entry_check = entry_check_of(
            settings, house.resolver, house.machine.clock, house.metrics, house.reports.tally
        )
        house.trust.forwarding.set_terms(domain=forwarding_domain(settings), rewrites=settings.forwarding.srs)
        house.key_rotation.terms = rotation_terms(settings)

    async def stop(self, grace: float) -> None:
        """Drain: sessions finish what they began, within `grace` seconds; then everything is closed."""
        self._log.info("stopping", grace=grace)
        await asyncio.gather(
            *(listener.stop(grace) for listener in self.listeners),
            self.house.relay.stop(grace),
            self._housekeeping.stop(),
            self.house.certificates.stop(),
            self.house.reports.stop(),
        )
        await self.house.room.stop()  # after the relay, whose last sessions are counted
        await self.house.close()
        self._log.info("stopped")

    def reload(self, settings: Settings) -> list[str]:
        """Take over what can change while serving: routes, schedules, how letters from other servers are judged, how
        letters are passed on, signed and protected, our own MTA-STS policy. The rest needs a restart: what of it has
        changed is logged and given back."""
        self.house.routing.set_routes(static_routes(settings))
        self.house.room.set_rules(settings)
        schedules = schedules_of(settings)
        self.house.delivery.set_schedules(schedules)
        self.house.settler.schedules = schedules
        self._reload_trust(settings)
        self.house.policy_desk.policy = policy_of(settings)
        changed = needing_restart(self.house.settings, settings)
        if changed:
            self._log.warning("a restart is needed for changes of these settings", settings=changed)
        self.house.relay.wake()
        self._log.info("reloaded")
        return changed


def needing_restart(old: Settings, new: Settings) -> list[str]:
    """The settings that differ and that `Server.reload` does not take over, by their names in the file."""
    before, after = old.model_dump(), new.model_dump()
    found = [each for key in after for each in _changed(key, before[key], after[key])]
    return sorted(each for each in found if each.partition(".")[0] not in _TAKEN_OVER or each in _READ_AT_THE_START)


def _changed(name: str, old: object, new: object) -> list[str]:
    """The settings that differ, by their names in the file."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return [each for key in new for each in _changed(f"{name}.{key}", old[key], new[key])]
    return [] if old == new else [name]


def admission_of(section: config.Smtp | config.Pop3 | config.Imap | config.Web, descriptors: int | None) -> Admission:
    """The settings' limits, and of the system's no more than half for each protocol: a connection that is told why
    it is not welcome is better than one that cannot be accepted."""
    total = section.max_connections if descriptors is None else min(section.max_connections, max(1, descriptors // 2))
    return Admission(total, section.max_connections_per_address, exempt=LOOPBACK)


def services_of(house: House) -> list[Service]:
    def smtp(name: str, role: Role, *, implicit: bool = False) -> Service:
        return Service(name, implicit, house.settings.smtp, _smtp(house, role, name), unwelcome)

    def pop3(name: str, *, implicit: bool = False) -> Service:
        return Service(name, implicit, house.settings.pop3, _pop3(house, name), _pop3_unwelcome)

    def imap(name: str, *, implicit: bool = False) -> Service:
        return Service(name, implicit, house.settings.imap, _imap(house, name), _imap_unwelcome)

    return [
        smtp("smtp", Role.MX),
        smtp("submission", Role.SUBMISSION),
        smtp("submissions", Role.SUBMISSION, implicit=True),
        smtp("lmtp", Role.LMTP),
        pop3("pop3"),
        pop3("pop3s", implicit=True),
        imap("imap"),
        imap("imaps", implicit=True),
    ]


def _smtp(house: House, role: Role, listener: str) -> SessionFactory:
    settings = house.settings
    offices: dict[Role, Office] = {Role.MX: house.reception, Role.LMTP: house.lmtp, Role.SUBMISSION: house.submission}
    plaintext = listener in settings.auth.plaintext
    terms = SmtpTerms(
        role=role,
        hostname=settings.hostname,
        office=offices[role],
        login=house.login,
        clock=house.machine.clock,
        metrics=house.metrics,
        log=logger(role.value),
        tarpit_after=settings.smtp.tarpit_after,
        close_after=settings.smtp.close_after,
        plaintext_auth=plaintext,
    )

    def new_session(peer: Peer, tls: TlsInfo | None) -> SmtpSession:
        engine = SmtpServer(
            hostname=settings.hostname,
            mode=Mode(role.value),
            max_message_size=settings.smtp.max_message,
            max_recipients=settings.smtp.max_recipients,
            offers_tls=tls is None and role is not Role.LMTP,
            requires_auth=role is Role.SUBMISSION,
            auth_needs_tls=not plaintext,
            offers_requiretls=settings.transport.requiretls,
        )
        if tls is not None:
            engine.tls_started(tls)
        return SmtpSession(engine, Client(peer, tls=tls), terms)

    return new_session


def _pop3(house: House, listener: str) -> SessionFactory:
    plaintext = listener in house.settings.auth.plaintext
    terms = Pop3Terms(
        hostname=house.settings.hostname,
        login=house.login,
        maildrops=house.maildrops,
        metrics=house.metrics,
        log=logger("pop3"),
        plaintext_auth=plaintext,
        tarpit_after=house.settings.smtp.tarpit_after,
        close_after=house.settings.smtp.close_after,
    )

    def new_session(peer: Peer, tls: TlsInfo | None) -> Pop3Session:
        engine = Pop3Server(offers_tls=tls is None, requires_tls=not plaintext)
        if tls is not None:
            engine.tls_started(tls)
        return Pop3Session(engine, peer, tls, terms)

    return new_session


def _imap(house: House, listener: str) -> SessionFactory:
    settings = house.settings
    plaintext = listener in settings.auth.plaintext
    terms = ImapTerms(
        hostname=settings.hostname,
        login=house.login,
        places=house.mailboxes.places,
        desk=house.mailboxes.desk,
        fetching=house.mailboxes.fetching,
        folders=house.mailboxes.folders,
        listing=house.mailboxes.listing,
        searcher=house.mailboxes.searcher,
        sharing=house.mailboxes.sharing,
        sorter=house.mailboxes.sorter,
        storing=house.mailboxes.storing,
        append_desk=house.mailboxes.append_desk,
        presence=house.mailboxes.presence,
        clock=house.machine.clock,
        metrics=house.metrics,
        log=logger("imap"),
        append_limit=settings.smtp.max_message,
        literal_minus=settings.imap.literal_minus,
        plaintext_auth=plaintext,
        tarpit_after=settings.smtp.tarpit_after,
        close_after=settings.smtp.close_after,
    )
    engine_terms = EngineTerms(
        requires_tls=not plaintext,
        max_message_size=settings.smtp.max_message,
        literal_minus=settings.imap.literal_minus,
    )

    def new_session(peer: Peer, tls: TlsInfo | None) -> ImapSession:
        engine = ImapServer(engine_terms, offers_tls=tls is None)
        if tls is not None:
            engine.tls_started(tls)
        return ImapSession(engine, peer, tls, terms)

    return new_session


def _imap_unwelcome(_peer: Peer, reason: str) -> bytes:
    return f"* BYE [UNAVAILABLE] {reason}\r\n".encode()


def _pop3_unwelcome(_peer: Peer, reason: str) -> bytes:
    return f"-ERR [SYS/TEMP] {reason}\r\n".encode()
