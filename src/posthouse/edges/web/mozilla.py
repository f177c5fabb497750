# SPDX-License-Identifier: Apache-2.0
"""Mozilla's autoconfig, version 1.1, which Thunderbird, Evolution, KMail and others read.

Nothing in it comes from who asks: the address stands as the placeholder that every reader replaces.
"""

from __future__ import annotations

from html import escape

from posthouse.services.client_settings import MailServer, Offer, Protocol, Security

_SOCKET = {Security.IMPLICIT: "SSL", Security.STARTTLS: "STARTTLS"}
MEDIA_TYPE = "text/xml"  # what the reference implementation serves; charset stands in the document
PATHS = ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml")


def client_config(offer: Offer, domain: str) -> bytes:
    name = escape(domain)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<clientConfig version="1.1">',
        f'  <emailProvider id="{name}">',
        f"    <domain>{name}</domain>",
        f"    <displayName>{name}</displayName>",
        f"    <displayShortName>{name}</displayShortName>",
    ]
    for server in offer.servers:
        lines += _server(server)
    lines += ["  </emailProvider>", "</clientConfig>", ""]
    return "\n".join(lines).encode()


def _server(server: MailServer) -> list[str]:
    kind = "outgoingServer" if server.protocol is Protocol.SMTP else "incomingServer"
    return [
        f'    <{kind} type="{server.protocol}">',
        f"      <hostname>{escape(server.host)}</hostname>",
        f"      <port>{server.port}</port>",
        f"      <socketType>{_SOCKET[server.security]}</socketType>",
        # The word for PLAIN, LOGIN and what is their like; TLS is always there.
        "      <authentication>password-cleartext</authentication>",
        "      <username>%EMAILADDRESS%</username>",
        f"    </{kind}>",
    ]
