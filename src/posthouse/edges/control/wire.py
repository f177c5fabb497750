# SPDX-License-Identifier: Apache-2.0
"""Values of the services as JSON: status codes and addresses as their text, times as epoch seconds.

Invariant: ids are text. They have 63 bits, and many readers of JSON keep 53.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from posthouse.mail.address import Address, Domain
from posthouse.outcome import Status

IDS = frozenset({"id", "account", "letter"})
HIDDEN = frozenset({"hash"})  # the keyed hash of an app password is nobody's business


def encode(value: object) -> bytes:
    return msgspec.json.encode(plain(value))


def plain(value: Any) -> Any:
    """Dataclasses as objects, sequences as arrays, the house's words as text."""
    match value:
        case Status() | Address() | Domain():
            return str(value)
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {
            field.name: _field(value, field.name) for field in dataclasses.fields(value) if field.name not in HIDDEN
        }
    return value


def _field(owner: Any, name: str) -> Any:
    value = getattr(owner, name)
    return str(value) if name in IDS and isinstance(value, int) else plain(value)
