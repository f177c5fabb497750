# SPDX-License-Identifier: Apache-2.0
"""A configuration profile for Apple's mail programs: opened once on the device, it sets up the account.

The same address gives the same profile with the same identifiers, so that a newer one takes the place of an older.
"""

from __future__ import annotations

import plistlib
import uuid
from typing import Any

from posthouse.mail.address import Address
from posthouse.services.client_settings import MailServer, Offer, Protocol

MEDIA_TYPE = "application/x-apple-aspen-config"
PATH = "/profile.mobileconfig"
_KINDS = {Protocol.IMAP: "EmailTypeIMAP", Protocol.POP3: "EmailTypePOP"}


def profile(offer: Offer, address: Address) -> bytes:
    """An XML property list. The password is not in it; the device asks for it once."""
    reading, sending = offer.to_read, offer.best(Protocol.SMTP)
    assert reading is not None, "an offer that is usable"
    assert sending is not None, "an offer that is usable"
    name = str(address)
    identifier = ".".join(reversed(offer.hostname.split("."))) + ".mail." + _uuid(offer, name, "account").lower()
    account: dict[str, Any] = {
        "PayloadType": "com.apple.mail.managed",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{identifier}.account",
        "PayloadUUID": _uuid(offer, name, "account"),
        "PayloadDisplayName": name,
        "EmailAccountDescription": name,
        "EmailAccountType": _KINDS[reading.protocol],
        "EmailAddress": name,
        **_server("Incoming", reading, name),
        **_server("Outgoing", sending, name),
        "OutgoingPasswordSameAsIncomingPassword": True,
    }
    whole = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": _uuid(offer, name, "profile"),
        "PayloadDisplayName": f"{name} ({offer.hostname})",
        "PayloadDescription": f"Sets up {name} in Mail.",
        "PayloadOrganization": address.domain.unicode,
        "PayloadContent": [account],
    }
    return plistlib.dumps(whole)


def _server(way: str, server: MailServer, name: str) -> dict[str, Any]:
    return {
        f"{way}MailServerAuthentication": "EmailAuthPassword",
        f"{way}MailServerHostName": server.host,
        f"{way}MailServerPortNumber": server.port,
        f"{way}MailServerUseSSL": True,  # STARTTLS too, where the port is one for it
        f"{way}MailServerUsername": name,
    }


def _uuid(offer: Offer, name: str, part: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{name}?{part}@{offer.hostname}")).upper()
