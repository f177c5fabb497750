# SPDX-License-Identifier: Apache-2.0
"""An ACME authority by script: the WebClient port answers as RFC 8555 says, and checks every request as it must."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from posthouse.ports import Clock, WebFault, WebReply

BASE = "https://ca.test"
DIRECTORY = f"{BASE}/dir"
PROBLEM = "urn:ietf:params:acme:error:"
NO_HEADERS: dict[str, str] = {}


def unpadded(text: str) -> bytes:
    assert "=" not in text, "RFC 8555 §6.1: padding"
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Problem(Exception):  # noqa: N818 - its name in RFC 9457
    def __init__(
        self, kind: str, detail: str = "", *, status: int = 400, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        super().__init__(kind)
        self.kind, self.detail, self.status, self.headers = kind, detail, status, headers


@dataclass
class Order:
    number: int
    names: list[str]
    account: str
    status: str = "pending"
    tokens: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)  # of each name's authorization
    errors: dict[str, str] = field(default_factory=dict)
    chain: bytes = b""
    replaces: str = ""
    profile: str = ""

    @property
    def leaf(self) -> x509.Certificate | None:
        return x509.load_pem_x509_certificate(self.chain) if self.chain else None


class FakeAuthority:
    """`look(kind, name, token, proof)` says whether a challenge is met, as the network sees it."""

    def __init__(self, clock: Clock, look: Callable[[str, str, str, str], bool]) -> None:
        self.clock = clock
        self.look = look
        self.days = 90.0
        self.offers = ["http-01", "tls-alpn-01", "dns-01"]
        self.has_renewal_info = True
        self.window: tuple[float, float] | None = None
        self.retry_after = "21600"
        self.mac_keys: dict[str, bytes] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.orders: dict[int, Order] = {}
        self.asked: list[str] = []  # what for, in words
        self.refuse: list[Problem | WebFault] = []  # instead of the next answers to POST
        self.refuse_at: dict[int, Problem | WebFault] = {}  # and by the number of the POST, from 1
        self.posts = 0
        self.looks_per_validation = 0  # polls for which it stays undecided
        self.forgets_after_finalize = False
        self.wants_proof_of = ""  # instead of the names that were ordered
        self.replaced: set[str] = set()
        self.revokes = True
        self.revoked: dict[bytes, tuple[int | None, bool]] = {}  # by DER: the reason, whether by the certificate's key
        self.weak_root = False  # the chain has a certificate that OpenSSL does not take
        self.begins = 0.0  # seconds from now when what is issued begins
        self.nonces: set[str] = set()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._count = 0
        self._undecided = 0

    # --- the port ---------------------------------------------------------------------------------

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        assert limit > 0
        assert seconds > 0
        self.asked.append(url.removeprefix(f"{BASE}/").partition("/")[0])
        if url == DIRECTORY:
            directory = {
                "newNonce": f"{BASE}/nonce",
                "newAccount": f"{BASE}/new-account",
                "newOrder": f"{BASE}/new-order",
                "meta": {"externalAccountRequired": bool(self.mac_keys)},
                "somethingNew": {"x": 1},
            }
            if self.revokes:
                directory["revokeCert"] = f"{BASE}/revoke-cert"
            if self.has_renewal_info:
                directory["renewalInfo"] = f"{BASE}/renewal"
            return self._json(directory)
        if url == f"{BASE}/nonce":
            return WebReply(204, {"replay-nonce": self._nonce()}, b"")
        if url.startswith(f"{BASE}/renewal/"):
            if self.window is None:
                return WebReply(503, {}, b"busy")
            start, end = (datetime.datetime.fromtimestamp(each, datetime.UTC).isoformat() for each in self.window)
            info = {"suggestedWindow": {"start": start, "end": end}, "explanationURL": "https://ca.test/why"}
            return self._json(info, {"retry-after": self.retry_after})
        return WebReply(404, {}, b"")

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        assert headers["Content-Type"] == "application/jose+json"
        try:
            payload, who = self._verify(url, body)
            self.asked.append(url.removeprefix(f"{BASE}/").rstrip("0123456789/"))
            self.posts += 1
            if self.posts in self.refuse_at:
                raise self.refuse_at[self.posts]
            if self.refuse:
                refusal = self.refuse.pop(0)
                raise refusal
            return self._answer(url, payload, who)
        except Problem as problem:
            text = {"type": PROBLEM + problem.kind, "detail": problem.detail, "status": problem.status}
            fresh = {"replay-nonce": self._nonce(), **problem.headers}
            return WebReply(problem.status, fresh, json.dumps(text).encode())

    # --- what it knows ----------------------------------------------------------------------------

    def _verify(self, url: str, body: bytes) -> tuple[bytes, str]:
        jws = json.loads(body)
        assert set(jws) == {"protected", "payload", "signature"}, "RFC 8555 §6.2: flattened, no unprotected header"
        header = json.loads(unpadded(jws["protected"]))
        assert header["alg"] == "ES256"
        assert header["url"] == url, "§6.4"
        assert ("jwk" in header) != ("kid" in header), "§6.2: exclusive"
        assert ("jwk" in header) == url.endswith("/new-account") or url.endswith("/revoke-cert")
        if header["nonce"] not in self.nonces:
            raise Problem("badNonce")
        self.nonces.remove(header["nonce"])
        if "kid" in header:
            if header["kid"] not in self.accounts:
                raise Problem("accountDoesNotExist", "who are you", status=403)
            jwk = self.accounts[header["kid"]]["jwk"]
        else:
            jwk = header["jwk"]
        x, y = (int.from_bytes(unpadded(jwk[each]), "big") for each in ("x", "y"))
        signature = unpadded(jws["signature"])
        assert len(signature) == 64
        halves = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        signed = f"{jws['protected']}.{jws['payload']}".encode()
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        public.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))
        return unpadded(jws["payload"]), header.get("kid", "") or json.dumps(jwk, sort_keys=True)

    def _answer(self, url: str, payload: bytes, who: str) -> WebReply:
        what, _, rest = url.removeprefix(f"{BASE}/").partition("/")
        match what:
            case "new-account":
                return self._account(json.loads(payload), json.loads(who))
            case "account":
                self.accounts[who]["contact"] = json.loads(payload)["contact"]
                return self._json({"status": "valid"})
            case "new-order":
                return self._new_order(json.loads(payload), who)
            case "revoke-cert":
                return self._revoke(json.loads(payload), who)
        order = self.orders.get(int(rest.split("/")[0]))
        if order is None or order.account != who:
            raise Problem("malformed", "no such thing", status=404)
        match what:
            case "order":
                assert payload == b"", "POST-as-GET"
                return self._order(order)
            case "authz":
                assert payload == b"", "POST-as-GET"
                return self._authorization(order, order.names[int(rest.split("/")[1])])
            case "challenge":
                assert json.loads(payload) == {}, "RFC 8555 §7.5.1"
                _, name, kind = rest.split("/")
                return self._validate(order, order.names[int(name)], kind)
            case "finalize":
                return self._finalize(order, json.loads(payload))
            case "certificate":
                return WebReply(200, {"replay-nonce": self._nonce()}, order.chain)
        raise Problem("malformed", "no such thing", status=404)

    def _account(self, wanted: Any, jwk: Any) -> WebReply:
        assert wanted["termsOfServiceAgreed"] is True
        if self.mac_keys:
            binding = wanted.get("externalAccountBinding")
            if binding is None:
                raise Problem("externalAccountRequired")
            header = json.loads(unpadded(binding["protected"]))
            assert header == {"alg": "HS256", "kid": header["kid"], "url": f"{BASE}/new-account"}, "§7.3.4: no nonce"
            assert json.loads(unpadded(binding["payload"])) == jwk
            signed = f"{binding['protected']}.{binding['payload']}".encode()
            right = hmac.new(self.mac_keys[header["kid"]], signed, hashlib.sha256).digest()
            if unpadded(binding["signature"]) != right:
                raise Problem("unauthorized", "a wrong MAC")
        for url, account in self.accounts.items():
            if account["jwk"] == jwk:
                return self._json({"status": "valid"}, {"location": url})
        url = f"{BASE}/account/{len(self.accounts) + 1}"
        self.accounts[url] = {"jwk": jwk, "contact": wanted.get("contact", [])}
        return self._json({"status": "valid"}, {"location": url}, 201)

    def _revoke(self, wanted: Any, who: str) -> WebReply:
        """§7.6."""
        certificate = x509.load_der_x509_certificate(unpadded(wanted["certificate"]))
        [order] = [each for each in self.orders.values() if each.leaf == certificate]
        is_own_key = not who.startswith(BASE)
        if is_own_key:
            jwk = json.loads(who)
            point = certificate.public_key()
            assert isinstance(point, ec.EllipticCurvePublicKey)
            numbers = point.public_numbers()
            if (numbers.x, numbers.y) != tuple(int.from_bytes(unpadded(jwk[each]), "big") for each in ("x", "y")):
                raise Problem("unauthorized", "another key", status=403)
        elif order.account != who:
            raise Problem("unauthorized", "another account", status=403)
        if wanted.get("reason") not in (None, 1, 4, 5):
            raise Problem("badRevocationReason")
        der = certificate.public_bytes(Encoding.DER)
        if der in self.revoked:
            raise Problem("alreadyRevoked")
        self.revoked[der] = (wanted.get("reason"), is_own_key)
        return WebReply(200, {"replay-nonce": self._nonce()}, b"")

    def _new_order(self, wanted: Any, who: str) -> WebReply:
        names = [each["value"] for each in wanted["identifiers"]]
        assert all(each["type"] == "dns" for each in wanted["identifiers"])
        replaces = wanted.get("replaces", "")
        if replaces in self.replaced:
            raise Problem("alreadyReplaced", status=409)
        order = Order(len(self.orders) + 1, names, who, replaces=replaces, profile=wanted.get("profile", ""))
        order.tokens = {name: f"token-of-{order.number}-{index:016d}" for index, name in enumerate(names)}
        order.states = dict.fromkeys(names, "pending")
        self.orders[order.number] = order
        return self._order(order, 201)

    def _order(self, order: Order, status: int = 200) -> WebReply:
        if order.status == "pending" and all(each == "valid" for each in order.states.values()):
            order.status = "ready"
        if "invalid" in order.states.values():
            order.status = "invalid"
        said: dict[str, Any] = {
            "status": order.status,
            "authorizations": [f"{BASE}/authz/{order.number}/{index}" for index in range(len(order.names))],
            "finalize": f"{BASE}/finalize/{order.number}",
        }
        if order.status == "valid":
            said["certificate"] = f"{BASE}/certificate/{order.number}"
            self.replaced.add(order.replaces)
            self.replaced.discard("")
        return self._json(said, {"location": f"{BASE}/order/{order.number}"}, status)

    def _authorization(self, order: Order, name: str) -> WebReply:
        if order.states[name] == "processing":
            self._undecided -= 1
            if self._undecided < 0:
                order.states[name] = "valid"
        state = order.states[name]
        error = {"type": PROBLEM + "unauthorized", "detail": order.errors.get(name, "")}
        index = order.names.index(name)
        challenges = [
            {
                "type": kind,
                "url": f"{BASE}/challenge/{order.number}/{index}/{kind}",
                "status": state,
                "token": order.tokens[name],
                **({"error": error} if state == "invalid" else {}),
            }
            for kind in self.offers
        ]
        said = {
            "identifier": {"type": "dns", "value": self.wants_proof_of or name.removeprefix("*.")},
            "status": "pending" if state == "processing" else state,
            "wildcard": name.startswith("*."),
            "challenges": challenges,
        }
        return self._json(said)

    def _validate(self, order: Order, name: str, kind: str) -> WebReply:
        jwk = self.accounts[order.account]["jwk"]
        thumbprint = hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
        proof = f"{order.tokens[name]}.{base64.urlsafe_b64encode(thumbprint).rstrip(b'=').decode()}"
        is_met = self.look(kind, name.removeprefix("*."), order.tokens[name], proof)
        order.states[name] = ("processing" if self.looks_per_validation else "valid") if is_met else "invalid"
        self._undecided = self.looks_per_validation
        if not is_met:
            order.errors[name] = "not what was expected"
        return self._json({"type": kind, "status": "processing"})

    def _finalize(self, order: Order, wanted: Any) -> WebReply:
        if order.status != "ready":
            raise Problem("orderNotReady", status=403)
        csr = x509.load_der_x509_csr(unpadded(wanted["csr"]))
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert sorted(names.get_values_for_type(x509.DNSName)) == sorted(order.names)
        order.chain, order.status = self._issue(csr, order.names), "valid"
        if self.forgets_after_finalize:
            raise WebFault("ca.test: no connection")
        return self._order(order)

    def _issue(self, csr: x509.CertificateSigningRequest, names: list[str]) -> bytes:
        now = datetime.datetime.fromtimestamp(self.clock.wall() + self.begins, datetime.UTC)
        self._count += 1
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the test's authority")])

        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

        def sign(key: Any, subject: x509.Name, days: float, sans: list[str]) -> bytes:
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(key)
                .serial_number(0x8765_0000 + self._count)
                .not_valid_before(now)
                .not_valid_after(now + datetime.timedelta(days=days))
                .add_extension(issuer_key, critical=False)
            )
            if sans:
                found = x509.SubjectAlternativeName([x509.DNSName(name) for name in sans])
                builder = builder.add_extension(found, critical=False)
            return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

        root = rsa.generate_private_key(65537, 1024).public_key() if self.weak_root else self.key.public_key()
        return sign(csr.public_key(), x509.Name([]), self.days, names) + sign(root, issuer, 3650, [])

    def _nonce(self) -> str:
        self._count += 1
        nonce = base64.urlsafe_b64encode(f"nonce {self._count}".encode()).rstrip(b"=").decode()
        self.nonces.add(nonce)
        return nonce

    def _json(self, value: Any, headers: Mapping[str, str] = NO_HEADERS, status: int = 200) -> WebReply:
        return WebReply(status, {"replay-nonce": self._nonce(), **headers}, json.dumps(value).encode())
