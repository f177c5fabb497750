# SPDX-License-Identifier: Apache-2.0
"""The admin API's verbs about certificates of an authority."""

from __future__ import annotations

from typing import Any, assert_never

from starlette.requests import Request
from starlette.routing import Route

from posthouse.edges.control import requests as bodies
from posthouse.edges.control.routing import body_of, route
from posthouse.services.certificates import Certificates


def certificate_routes(certificates: Certificates) -> list[Route]:
    api = _CertificatesApi(certificates)
    return [
        route("/v1/certificates", GET=api.list_certificates),
        route("/v1/certificates/{label}", POST=api.act_on_certificate),
    ]


class _CertificatesApi:
    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    async def list_certificates(self, _request: Request) -> Any:
        return await self._certificates.list()

    async def act_on_certificate(self, request: Request) -> Any:
        body = await body_of(request, bodies.CertificateAction)
        name, certificates = request.path_params["label"], self._certificates
        match body.action:
            case "renew":
                return {"certificate": await certificates.renew(name, new_key=body.new_key), "sight": None}
            case "rollover":
                status, sight = await certificates.rollover(name)
                return {"certificate": status, "sight": sight}
            case "revoke":
                return {"certificate": await certificates.revoke(name, body.reason), "sight": None}
            case unknown:
                assert_never(unknown)
