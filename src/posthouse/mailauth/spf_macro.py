# SPDX-License-Identifier: Apache-2.0
"""What SPF macros expand to (RFC 7208 §7.3). Pure: a validated name that DNS gives is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from posthouse.mailauth.spf_record import Macro, MacroString
from posthouse.ports import IPAddress

MAX_NAME = 253  # characters of a domain name, RFC 7208 §7.3
# Octets of an expanded string. 253 are used of a name; an explanation becomes a line or two of an SMTP reply.
MAX_EXPANDED = 4096


@dataclass(frozen=True, slots=True)
class Facts:
    """What the macros stand for, but for the current domain and the validated name. `sender` is local@domain."""

    address: IPAddress
    sender: str
    hello: str
    receiver: str
    now: float


def needs_name(text: MacroString) -> bool:
    """Whether %{p} is in it."""
    return any(isinstance(token, Macro) and token.letter == "p" for token in text)


def expand(text: MacroString, facts: Facts, domain: str, name: str = "unknown") -> str:
    """The first MAX_EXPANDED characters; `name` is the value of %{p}."""
    parts: list[str] = []
    room = MAX_EXPANDED
    for token in text:
        part = token if isinstance(token, str) else _transformed(token, _value(token.letter, facts, domain, name))
        parts.append(part)
        room -= len(part)
        if room <= 0:
            break
    return "".join(parts)[:MAX_EXPANDED]


def expand_name(text: MacroString, facts: Facts, domain: str, name: str = "unknown") -> str:
    """For a DNS question: without the final dot, and labels are cut off at the left until it is short enough."""
    expanded = expand(text, facts, domain, name).removesuffix(".")
    if len(expanded) > MAX_NAME:
        cut = expanded.find(".", len(expanded) - MAX_NAME - 1)
        expanded = "" if cut < 0 else expanded[cut + 1 :]
    return expanded


def _value(letter: str, facts: Facts, domain: str, name: str) -> str:
    match letter:
        case "s":
            return facts.sender
        case "l":
            return facts.sender.rpartition("@")[0]
        case "o":
            return facts.sender.rpartition("@")[2]
        case "d":
            return domain
        case "i":
            if facts.address.version == 4:
                return str(facts.address)
            return ".".join(facts.address.exploded.replace(":", ""))
        case "p":
            return name
        case "v":
            return "in-addr" if facts.address.version == 4 else "ip6"
        case "h":
            return facts.hello
        case "c":
            return str(facts.address)
        case "r":
            return facts.receiver
        case _:  # "t": the record's reader knows no other letter
            return str(int(facts.now))


def _transformed(macro: Macro, value: str) -> str:
    if macro.keep or macro.is_reversed or macro.delimiters != ".":
        first = macro.delimiters[0]
        for other in macro.delimiters[1:]:
            value = value.replace(other, first)
        parts = value.split(first)
        if macro.is_reversed:
            parts.reverse()
        value = ".".join(parts[-macro.keep :])  # 0: all of them
    return quote(value, safe="") if macro.is_escaped else value
