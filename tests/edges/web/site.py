# SPDX-License-Identifier: Apache-2.0
"""The web application with a few domains, asked without sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx2

from posthouse.config import Listen
from posthouse.edges.web.app import WebApp, WebTerms
from posthouse.edges.web.names import Names
from posthouse.services.client_settings import offer_of
from posthouse.services.own_policy import OwnPolicy, own_policy
from posthouse.telemetry import Metrics
from tests.fakes import SetClock

HOST = "mail.alice.test"
LISTEN: dict[str, list[str]] = {
    "imaps": ["*:993"],
    "imap": ["*:143"],
    "pop3s": ["*:995"],
    "submissions": ["*:465"],
    "submission": ["*:587"],
    "https": ["*:443"],
}


@dataclass
class Site:
    domains: set[str] = field(default_factory=lambda: {"alice.test", "twin.test", "xn--r8jz45g.test", HOST})
    listen: dict[str, list[str]] = field(default_factory=lambda: dict(LISTEN))
    policy: OwnPolicy = field(default_factory=lambda: own_policy(HOST, "testing", 86400, ["*.backup.test"]))
    challenges: dict[str, str] = field(default_factory=dict)
    signature: bytes | None = None
    behind_proxy: bool = False
    asked: list[str] = field(default_factory=list)
    client: Any = ("192.0.2.9", 1234)
    metrics: Metrics = field(default_factory=Metrics)

    async def _is_local(self, name: str) -> bool:
        self.asked.append(name)
        return name in self.domains

    async def _sign(self, octets: bytes) -> bytes | None:
        return self.signature

    def app(self) -> WebApp:
        return WebApp(
            WebTerms(
                offer=offer_of(HOST, Listen.model_validate(self.listen), behind_proxy=self.behind_proxy),
                names=Names(HOST, self._is_local),
                policy=lambda: self.policy,
                challenge=self.challenges.get,
                sign=self._sign,
                clock=SetClock(1_800_000_000.0),
                metrics=self.metrics,
                behind_proxy=self.behind_proxy,
            )
        )

    async def ask(self, url: str, method: str = "GET", **more: Any) -> httpx2.Response:
        app: Any = self.app()
        transport = httpx2.ASGITransport(app, client=self.client)
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.request(method, url, **more)
