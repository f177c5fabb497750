# SPDX-License-Identifier: Apache-2.0
"""The conversation with an authority: signed requests with fresh nonces, and the objects that it answers with.

Invariant: every request is signed for the URL that the authority gave, with a nonce that was never used before, and
costs bounded time and memory whatever the authority answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from posthouse.ports import Clock, WebClient, WebFault, WebReply
from posthouse.services.acme.jws import AccountKey, bind_account, encode
from posthouse.services.acme.words import (
    PROBLEM,
    REASONS,
    AcmeFault,
    Authorization,
    Challenge,
    Directory,
    Order,
    Reason,
    RenewalInfo,
    is_nonce,
    read,
    read_problem,
)

MAX_ANSWER = 1 << 20  # octets; a chain of ten certificates has 20 thousand
SECONDS = 45.0  # for one request: authorities take up to half a minute when they are busy
# A nonce may be refused for being old (RFC 8555 §6.5); so many in a row are the authority's own trouble.
NONCE_TRIES = 8
MAX_RETRY_AFTER = 7 * 86400.0  # seconds; the longest rate limit of a large authority is a week
JOSE = "application/jose+json"
CHAIN = "application/pem-certificate-chain"


class AcmeClient:
    """One account at one authority; `account` is its URL there once `register` has been called."""

    def __init__(self, web: WebClient, clock: Clock, url: str, key: AccountKey, *, account: str = "") -> None:
        self.key = key
        self.account = account
        self._web = web
        self._clock = clock
        self._url = url
        self._directory: Directory | None = None
        self._nonce = ""

    async def directory(self) -> Directory:
        """§7.1.1; asked for once."""
        if self._directory is None:
            reply = await self._get(self._url, "directory")
            self._directory = read(reply.body, Directory, "directory")
        return self._directory

    async def register(self, contact: Sequence[str], *, binding: tuple[str, bytes] | None = None) -> str:
        """§7.3: the account's URL, whether it is made now or was there. `binding`: key id and secret (§7.3.4)."""
        directory = await self.directory()
        wanted: dict[str, Any] = {"termsOfServiceAgreed": True}
        if contact:
            wanted["contact"] = [f"mailto:{address}" for address in contact]
        if binding is not None:
            key_id, mac_key = binding
            wanted["externalAccountBinding"] = bind_account(
                self.key, url=directory.new_account, key_id=key_id, mac_key=mac_key
            )
        elif directory.meta.external_account_required:
            text = "the authority takes customers only: set acme.eab_key_id and acme.eab_key_file to what it gave you"
            raise AcmeFault(text, kind="externalAccountRequired")
        self.account = ""
        reply = await self._post(directory.new_account, wanted)
        self.account = _location(reply, "account")
        return self.account

    async def set_contact(self, contact: Sequence[str]) -> None:
        """§7.3.2."""
        await self._post(self.account, {"contact": [f"mailto:{address}" for address in contact]})

    async def new_order(self, names: Sequence[str], *, replaces: str = "", profile: str = "") -> tuple[str, Order]:
        """§7.4: the order and its URL. `replaces`: the id of the certificate that it is to follow (RFC 9773 §5)."""
        directory = await self.directory()
        wanted: dict[str, Any] = {"identifiers": [{"type": "dns", "value": name} for name in names]}
        if profile:
            wanted["profile"] = profile
        if replaces and directory.renewal_info:
            try:
                return _order(await self._post(directory.new_order, {**wanted, "replaces": replaces}))
            except AcmeFault as fault:
                # RFC 9773 §5: another order follows that certificate already, or the authority does not know it
                # (any more). The order is as good without.
                if fault.kind not in ("alreadyReplaced", "malformed", "unauthorized"):
                    raise
        return _order(await self._post(directory.new_order, wanted))

    async def order(self, url: str) -> tuple[Order, float | None]:
        """And the seconds after which the authority wants to be asked again, where it says so."""
        reply = await self._post(url, None)
        return read(reply.body, Order, "order"), self._retry_after(reply)

    async def authorization(self, url: str) -> tuple[Authorization, float | None]:
        reply = await self._post(url, None)
        return read(reply.body, Authorization, "authorization"), self._retry_after(reply)

    async def answer(self, challenge: Challenge) -> None:
        """§7.5.1: the challenge may be validated now."""
        await self._post(challenge.url, {})

    async def finalize(self, order: Order, csr: str) -> Order:
        """§7.4; `csr` in base64url."""
        reply = await self._post(order.finalize, {"csr": csr})
        return read(reply.body, Order, "order")

    async def certificate(self, url: str) -> bytes:
        """§7.4.2: the chain in PEM form."""
        return (await self._post(url, None, {"Accept": CHAIN})).body

    async def revoke(self, certificate: bytes, reason: Reason) -> None:
        """§7.6, for a certificate in DER form; signed by the account, or by the certificate's own key where that is
        this client's. One that is revoked already is no fault."""
        directory = await self.directory()
        if directory.revoke_cert is None:
            raise AcmeFault("the authority revokes no certificates (its directory has no revokeCert)")
        wanted: dict[str, Any] = {"certificate": encode(certificate)}
        if REASONS[reason]:  # RFC 5280 §5.3.1: rather none than "unspecified"
            wanted["reason"] = REASONS[reason]
        try:
            await self._post(directory.revoke_cert, wanted)
        except AcmeFault as fault:
            if fault.kind != "alreadyRevoked":
                raise

    async def renewal_info(self, certificate: str) -> tuple[RenewalInfo, float | None] | None:
        """RFC 9773 §4.1, for a certificate's id; None where the authority has none."""
        directory = await self.directory()
        if not directory.renewal_info:
            return None
        reply = await self._get(f"{directory.renewal_info.removesuffix('/')}/{certificate}", "renewal information")
        return read(reply.body, RenewalInfo, "renewal information"), self._retry_after(reply)

    # --- requests ---------------------------------------------------------------------------------

    async def _get(self, url: str, what: str) -> WebReply:
        try:
            reply = await self._web.get(url, limit=MAX_ANSWER, seconds=SECONDS)
        except WebFault as fault:
            raise AcmeFault(str(fault)) from None
        self._keep_nonce(reply)
        if reply.status // 100 != 2:
            raise self._refused(reply, f"{what}: ")
        return reply

    async def _post(self, url: str, payload: object | None, headers: Mapping[str, str] | None = None) -> WebReply:
        """With `payload` None it is POST-as-GET (§6.3)."""
        body = b"" if payload is None else json.dumps(payload, separators=(",", ":")).encode()
        tries = NONCE_TRIES
        while True:
            tries -= 1
            who: dict[str, Any] = {"kid": self.account} if self.account else {"jwk": self.key.jwk}
            signed = self.key.sign(body, {"nonce": await self._take_nonce(), "url": url, **who})
            try:
                reply = await self._web.post(
                    url, signed, headers={"Content-Type": JOSE, **(headers or {})}, limit=MAX_ANSWER, seconds=SECONDS
                )
            except WebFault as fault:
                raise AcmeFault(str(fault)) from None
            self._keep_nonce(reply)
            if reply.status // 100 == 2:
                return reply
            refused = self._refused(reply)
            # §6.5: the answer brought the nonce that the next attempt must use.
            if refused.kind != "badNonce" or tries == 0:
                raise refused

    async def _take_nonce(self) -> str:
        if not self._nonce:
            directory = await self.directory()
            # §7.2: HEAD and GET both give one; directories come with one at most authorities.
            await self._get(directory.new_nonce, "nonce")
        nonce, self._nonce = self._nonce, ""
        if not nonce:
            raise AcmeFault("the authority gives no Replay-Nonce")
        return nonce

    def _keep_nonce(self, reply: WebReply) -> None:
        nonce = reply.headers.get("replay-nonce", "")
        if is_nonce(nonce):
            self._nonce = nonce

    def _refused(self, reply: WebReply, before: str = "") -> AcmeFault:
        problem = read_problem(reply.body)
        after = self._retry_after(reply)
        if problem is None or not problem.type.startswith(PROBLEM):
            return AcmeFault(f"{before}the authority answers with HTTP {reply.status}", retry_after=after)
        return AcmeFault(before + problem.text(), kind=problem.kind, retry_after=after)

    def _retry_after(self, reply: WebReply) -> float | None:
        """Seconds (RFC 9110 §10.2.3); None where there is no such field, or none that can be read."""
        text = reply.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return min(float(text), MAX_RETRY_AFTER)
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(0.0, moment.timestamp() - self._clock.wall()), MAX_RETRY_AFTER)


def _order(reply: WebReply) -> tuple[str, Order]:
    return _location(reply, "order"), read(reply.body, Order, "order")


def _location(reply: WebReply, what: str) -> str:
    url = reply.headers.get("location", "")
    if not url:
        raise AcmeFault(f"the authority does not say where the {what} is")
    return url
