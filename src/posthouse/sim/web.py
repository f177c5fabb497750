# SPDX-License-Identifier: Apache-2.0
"""The web of a world that has none: every host refuses the connection."""

from __future__ import annotations

from collections.abc import Mapping

from posthouse.ports import WebFault, WebReply


class NoWeb:
    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        raise WebFault(f"{url}: no connection: refused")

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        raise WebFault(f"{url}: no connection: refused")
