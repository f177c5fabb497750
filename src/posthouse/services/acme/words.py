# SPDX-License-Identifier: Apache-2.0
"""What an authority says (RFC 8555 §7.1, RFC 9773 §4.2), read from JSON into values.

Invariant: what is not well formed is an AcmeFault, and nothing here is larger than a limit that has a name.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec

from posthouse.services.acme.jws import decode

T = TypeVar("T")

MAX_URL = 2048  # characters; what no web server refuses
MAX_NAMES = 100  # in one certificate: what the large authorities allow
MAX_CHALLENGES = 20  # of one name; there are four kinds today
MAX_DETAIL = 500  # characters of a problem that are told
# RFC 8555 §8.1: at least 128 bits, base64url alone. It becomes a part of a path, so anything else is dangerous.
TOKEN = re.compile(r"[A-Za-z0-9_-]{22,512}")
PROBLEM = "urn:ietf:params:acme:error:"
# Why a certificate is revoked, in words and as RFC 5280 §5.3.1 has it; of the reasons there those that a holder has.
Reason = Literal["unspecified", "key-compromise", "superseded", "cessation-of-operation"]
REASONS: dict[Reason, int] = {"unspecified": 0, "key-compromise": 1, "superseded": 4, "cessation-of-operation": 5}

Url = Annotated[str, msgspec.Meta(max_length=MAX_URL)]


def one_line(text: str) -> str:
    """Without what a terminal would obey."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:MAX_DETAIL]


class AcmeFault(Exception):  # noqa: N818 - as StoreFault
    """No certificate this time; the text is one line. `kind`: the authority's word for it (RFC 8555 §6.7), "" where it
    is none of its. `retry_after`: seconds that it asks for, None where it does not say."""

    def __init__(self, text: str, *, kind: str = "", retry_after: float | None = None) -> None:
        super().__init__(one_line(text))
        self.kind = kind
        self.retry_after = retry_after


class Word(msgspec.Struct, frozen=True, rename="camel"):
    """Members that are not named here are ignored, as RFC 8555 §7.1 extends its objects by adding some."""


class Meta(Word, frozen=True):
    terms_of_service: str = ""
    external_account_required: bool = False
    profiles: dict[str, str] = {}


class Directory(Word, frozen=True):
    """§7.1.1."""

    new_nonce: Url
    new_account: Url
    new_order: Url
    revoke_cert: Url | None = None
    renewal_info: Url | None = None
    meta: Meta = Meta()


class Identifier(Word, frozen=True):
    type: str
    value: str


class Problem(Word, frozen=True):
    """RFC 9457 §3.1 with the subproblems of RFC 8555 §6.7.1."""

    type: str = "about:blank"
    detail: str = ""
    identifier: Identifier | None = None
    subproblems: list[Problem] = []

    @property
    def kind(self) -> str:
        return self.type.removeprefix(PROBLEM)[:64]

    def text(self) -> str:
        """With its subproblems, which have none themselves (RFC 8555 §6.7.1)."""
        parts = [self.own_text(), *(each.own_text() for each in self.subproblems[:MAX_CHALLENGES])]
        return one_line("; ".join(parts))

    def own_text(self) -> str:
        return f"{self.identifier.value + ': ' if self.identifier else ''}{self.detail[:MAX_DETAIL]} ({self.kind})"


class Challenge(Word, frozen=True):
    """§7.1.5, §8."""

    type: str
    url: Url = ""
    status: str = ""
    token: str = ""
    error: Problem | None = None


class Authorization(Word, frozen=True):
    """§7.1.4."""

    identifier: Identifier
    status: str
    challenges: Annotated[list[Challenge], msgspec.Meta(max_length=MAX_CHALLENGES)] = []
    wildcard: bool = False


class Order(Word, frozen=True):
    """§7.1.3."""

    status: str
    authorizations: Annotated[list[Url], msgspec.Meta(max_length=MAX_NAMES)] = []
    finalize: Url = ""
    certificate: Url | None = None
    error: Problem | None = None


class Window(Word, frozen=True):
    start: datetime
    end: datetime


class RenewalInfo(Word, frozen=True):
    """RFC 9773 §4.2."""

    suggested_window: Window
    explanation_url: str = msgspec.field(default="", name="explanationURL")


def read(octets: bytes, kind: type[T], what: str) -> T:
    """Raises AcmeFault."""
    try:
        return msgspec.json.decode(octets, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AcmeFault(f"the authority's {what} is not what RFC 8555 describes: {error}") from None


def read_problem(octets: bytes) -> Problem | None:
    """Of an answer that says no; None where it does not say why."""
    try:
        return msgspec.json.decode(octets, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_token(text: str) -> bool:
    return TOKEN.fullmatch(text) is not None


def is_nonce(text: str) -> bool:
    """RFC 8555 §6.5.1: base64url, and clients must ignore anything else."""
    try:
        return bool(text) and len(text) <= MAX_URL and bool(decode(text)) and not set(text) & set("+/")
    except ValueError:
        return False
