# SPDX-License-Identifier: Apache-2.0
"""What leaves: routes, queue, relay, reports of failure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from posthouse.composing.ground import Ground
from posthouse.composing.reports import report_addresses
from posthouse.composing.transport import TransportRoom, open_transport
from posthouse.composing.trust import Trust
from posthouse.config import Destination, Settings
from posthouse.mail.address import Address, Domain
from posthouse.ports import SecureResolver
from posthouse.services.bounce import Bounce
from posthouse.services.carrier import Carrier
from posthouse.services.delivery import Delivery, ReportPoster
from posthouse.services.directory import Directory
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.relay import Relay
from posthouse.services.routing import Routing, StaticRoute
from posthouse.services.schedule import Schedule, Schedules
from posthouse.services.settle import Settler
from posthouse.services.waiting import WaitingDelivery


@dataclass(frozen=True, slots=True)
class Outgoing:
    resolver: SecureResolver
    room: TransportRoom
    routing: Routing
    delivery: Delivery
    bounce: Bounce
    settler: Settler
    relay: Relay
    queue_desk: QueueDesk


def open_outgoing(ground: Ground, directory: Directory, trust: Trust) -> Outgoing:
    settings, machine, database, blobs = ground.settings, ground.machine, ground.database, ground.blobs
    clock, entropy, bus = machine.clock, machine.entropy, ground.bus
    resolver = machine.resolver(settings)
    room = open_transport(ground, resolver)
    routing = Routing(resolver, entropy, settings.hostname, routes=static_routes(settings))
    schedules = schedules_of(settings)
    delivery = Delivery(routing, schedules, bus, report_addresses(settings))
    sender = Address("MAILER-DAEMON", Domain.parse(settings.hostname))
    bounce = Bounce(
        blobs,
        ReportPoster(directory, delivery, clock, trust.forwarding),
        clock,
        entropy,
        settings.hostname,
        sender=sender,
        signing=trust.host_signing,
    )
    settler = Settler(database, clock, bus, bounce=bounce, schedules=schedules, owner=entropy.octets(8).hex())
    carrier = Carrier(
        database,
        blobs,
        room.transport,
        clock,
        routing=routing,
        settler=settler,
        local=WaitingDelivery(directory, delivery, blobs, clock),
        return_path=trust.forwarding.reverse_path,
    )
    return Outgoing(
        resolver=resolver,
        room=room,
        routing=routing,
        delivery=delivery,
        bounce=bounce,
        settler=settler,
        relay=Relay(database, carrier, settler, clock, bus, connections=settings.queue.connections),
        queue_desk=QueueDesk(database, settler, clock, bus),
    )


def static_routes(settings: Settings) -> dict[str, StaticRoute]:
    routes = {}
    for name, route in settings.routes.items():
        password = route.password_file.read_text("utf-8").partition("\n")[0] if route.password_file else None
        domain = name if name == "*" else Domain.parse(name).name
        found = StaticRoute.parse(route.host, tls=route.tls, username=route.username, password=password)
        routes[domain] = replace(found, is_lmtp=route.protocol == "lmtp")
    return routes


def schedules_of(settings: Settings) -> Schedules:
    queue = settings.queue
    default = Schedule(
        retry=tuple(queue.retry), warn=queue.warn, expire=queue.expire, connections=queue.connections_per_destination
    )
    return Schedules(default, {name: _exception(default, each) for name, each in queue.destinations.items()})


def _exception(default: Schedule, destination: Destination) -> Schedule:
    return Schedule(
        retry=tuple(destination.retry) if destination.retry else default.retry,
        warn=default.warn,
        expire=default.expire if destination.expire is None else destination.expire,
        connections=destination.connections or default.connections,
    )
