# SPDX-License-Identifier: Apache-2.0
"""Microsoft's Autodiscover: the plain XML of [MS-OXDSCLI] and the JSON that says where it is.

Invariant: what a request says is read without entities, DTDs or nesting to speak of, and what of it is said again is
escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from xml.parsers import expat

from posthouse.services.client_settings import MailServer, Offer, Protocol, Security

MAX_BODY = 16 * 1024  # octets of a request; real ones have 400
MAX_DEPTH = 8  # elements in each other; real ones have three
MAX_VALUE = 1024  # characters of one element; an address has 254, the name of a schema 80
MEDIA_TYPE = "text/xml; charset=utf-8"
PATH = "/autodiscover/autodiscover.xml"
JSON_PATH = "/autodiscover/autodiscover.json"
SCHEMA = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
ENVELOPE = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"

INVALID_REQUEST = (600, "Invalid Request")
UNKNOWN_SCHEMA = (601, "The requested schema version not supported")
UNKNOWN_ADDRESS = (500, "The e-mail address cannot be found")

_TYPES = {Protocol.IMAP: "IMAP", Protocol.POP3: "POP3", Protocol.SMTP: "SMTP"}
_ENCRYPTION = {Security.IMPLICIT: "SSL", Security.STARTTLS: "TLS"}


class NotAutodiscover(ValueError):  # noqa: N818 - the sender's mistake
    """The body is no request that is known."""


@dataclass(frozen=True, slots=True)
class Asked:
    address: str
    schema: str  # of the answer that is wanted; "" where it does not say


class _Reader:
    """Takes the text of the elements that matter, by their names without namespaces: clients differ in those."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._depth = 0
        self._open = ""

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotAutodiscover("too deep")
        local = name.rpartition(" ")[2]
        self._open = local if local in ("EMailAddress", "AcceptableResponseSchema") else ""
        if self._open:
            self.found[self._open] = ""

    def end(self, _name: str) -> None:
        self._depth -= 1
        self._open = ""

    def text(self, text: str) -> None:
        if self._open:
            self.found[self._open] += text
            if len(self.found[self._open]) > MAX_VALUE:
                raise NotAutodiscover("too long")

    def doctype(self, *_words: object) -> None:
        raise NotAutodiscover("a DTD")  # with it entities, which may refer to files or grow without end


def read_request(body: bytes) -> Asked:
    """Raises NotAutodiscover."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an encoding that nobody knows
        raise NotAutodiscover(str(error)) from None
    address = reader.found.get("EMailAddress", "").strip()
    if not address:
        raise NotAutodiscover("no address")
    return Asked(address, reader.found.get("AcceptableResponseSchema", "").strip())


def settings(offer: Offer, address: str) -> bytes:
    """One server of each kind: of several a client takes any."""
    servers = [server for each in Protocol if (server := offer.best(each)) is not None]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<Autodiscover xmlns="{ENVELOPE}">',
        f'  <Response xmlns="{SCHEMA}">',
        "    <Account>",
        "      <AccountType>email</AccountType>",
        "      <Action>settings</Action>",
    ]
    for server in servers:
        lines += _protocol(server, address)
    lines += ["    </Account>", "  </Response>", "</Autodiscover>", ""]
    return "\n".join(lines).encode()


def _protocol(server: MailServer, address: str) -> list[str]:
    values = [
        ("Type", _TYPES[server.protocol]),
        ("Server", server.host),
        ("Port", str(server.port)),
        ("DomainRequired", "off"),
        ("LoginName", address),
        ("SPA", "off"),  # NTLM, which is on where nothing is said
        ("SSL", "on"),  # never off, for those that do not know the next one
        ("Encryption", _ENCRYPTION[server.security]),
        ("AuthRequired", "on"),
    ]
    if server.protocol is Protocol.SMTP:
        values += [("UsePOPAuth", "on"), ("SMTPLast", "off")]
    inner = [f"        <{name}>{escape(value)}</{name}>" for name, value in values]
    return ["      <Protocol>", *inner, "      </Protocol>"]


def error(kind: tuple[int, str]) -> bytes:
    code, text = kind
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<Autodiscover xmlns="{ENVELOPE}">\n'
        f"  <Response>\n    <Error>\n      <ErrorCode>{code}</ErrorCode>\n      <Message>{escape(text)}</Message>\n"
        "      <DebugData />\n    </Error>\n  </Response>\n</Autodiscover>\n"
    ).encode()


def pointer(url: str) -> dict[str, str]:
    """The JSON of Autodiscover version 2: where the XML is asked for."""
    return {"Protocol": "AutodiscoverV1", "Url": url}


def pointer_error(protocol: str) -> dict[str, str]:
    return {
        "ErrorCode": "InvalidProtocol",
        "ErrorMessage": f"The given protocol value '{protocol[:40]}' is invalid. Supported values are 'AutodiscoverV1'",
    }
