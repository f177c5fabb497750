# SPDX-License-Identifier: Apache-2.0
"""What settings are made of: durations, sizes, names, endpoints. Invariant: what passes needs no other check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from posthouse.mail.address import AddressError, Domain, parse_address

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
MAX_DURATION = 100 * 366 * 86400.0  # seconds; a date that far ahead can still be printed in a report
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PORT = re.compile(r"[0-9]{1,5}")
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_duration(value: object) -> float:
    """`"30m"` → 1800.0 seconds. Units: ms, s, m, h, d, w."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError('write a duration such as "30s", "15m", "4h" or "5d"')
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > MAX_DURATION:
        raise ValueError("this is longer than a hundred years")
    return seconds


def parse_optional_duration(value: object) -> float | None:
    return None if value == "" else parse_duration(value)


def parse_size(value: object) -> int:
    """`"50M"` → 52428800 octets. Units are powers of 1024."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError('write a size such as "200M" or "5G"')
    return int(found[1]) * _OCTETS[found[2].upper()]


def _host_and_port(value: str) -> str:
    if value.startswith("unix:/"):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError('write "host:port", for example "0.0.0.0:25", "[::]:25" or "unix:/run/posthouse/lmtp"')
    return value


def domain_name(value: str) -> str:
    try:
        return Domain.parse(value).name
    except AddressError as error:
        raise ValueError(str(error)) from None


def _mx_pattern(value: str) -> str:
    """RFC 8461 §3.2: a name, or a name below which any one label is good."""
    return f"*.{domain_name(value[2:])}" if value.startswith("*.") else domain_name(value)


def _clock_time(value: str) -> str:
    if value and not _TIME_OF_DAY.fullmatch(value):
        raise ValueError('write a time of day such as "03:30", or "" for never')
    return value


def _optional_domain_name(value: str) -> str:
    return domain_name(value) if value else ""


def _optional_mail_address(value: str) -> str:
    try:
        return str(parse_address(value)) if value else ""
    except AddressError as error:
        raise ValueError(str(error)) from None


def _address_or_local_part(value: str) -> str:
    if "@" in value:
        return _optional_mail_address(value)
    _optional_mail_address(f"{value}@example.org")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
OptionalDuration = Annotated[float | None, BeforeValidator(parse_optional_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
Endpoint = Annotated[str, AfterValidator(_host_and_port)]
DomainName = Annotated[str, AfterValidator(domain_name)]
OptionalDomainName = Annotated[str, AfterValidator(_optional_domain_name)]
MxPattern = Annotated[str, AfterValidator(_mx_pattern)]
OptionalMailAddress = Annotated[str, AfterValidator(_optional_mail_address)]
AddressOrLocalPart = Annotated[str, AfterValidator(_address_or_local_part)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def setting(default: Any, text: str, **limits: Any) -> Any:
    """A field whose default is written as in TOML (durations as "30m"), with the text of the manual."""
    return Field(default=default, description=text, **limits)
