# SPDX-License-Identifier: Apache-2.0
"""The admin API as an ASGI application: one route per verb, JSON in and out, refusals as `{"error": …}`.

The same application serves the control socket and, in process, the command line when no server runs. Who can
open the socket (0600) is the administrator; there is no other check here.
"""

from __future__ import annotations

from starlette.applications import Starlette

from posthouse.edges.control.certificates import certificate_routes
from posthouse.edges.control.domains import domain_routes
from posthouse.edges.control.letters import letter_routes
from posthouse.edges.control.office import Office
from posthouse.edges.control.people import people_routes
from posthouse.edges.control.queue import queue_routes
from posthouse.edges.control.reports import report_routes
from posthouse.edges.control.routing import no_such_route
from posthouse.edges.control.server import server_routes


def control_app(office: Office) -> Starlette:
    return Starlette(
        routes=[
            *server_routes(office),
            *domain_routes(office),
            *certificate_routes(office.certificates),
            *letter_routes(office.letterbox, office.max_message),  # before people: their addresses take the rest
            *people_routes(office),
            *queue_routes(office.queue_desk),
            *report_routes(office.reports),
        ],
        exception_handlers={404: no_such_route, 405: no_such_route},
    )
