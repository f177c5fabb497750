# SPDX-License-Identifier: Apache-2.0
"""Which EHLO keywords are offered, and the names of what was agreed on (RFC 5321 §2.2, RFC 3848)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Mode(StrEnum):
    """What a listener is for."""

    MX = "mx"  # mail from other servers, port 25
    SUBMISSION = "submission"  # mail from users, ports 587 and 465 (RFC 6409)
    LMTP = "lmtp"  # mail from a queue in front of us (RFC 2033)


def keywords(
    *,
    max_message_size: int,
    max_recipients: int,
    offers_tls: bool,
    mechanisms: Sequence[str],
    offers_requiretls: bool = False,
) -> tuple[str, ...]:
    """The lines after the first of an EHLO or LHLO reply.

    BINARYMIME is not offered: content is lines. EXPN is refused by policy and not announced.
    """
    lines = [
        "PIPELINING",  # RFC 2920
        f"SIZE {max_message_size}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "CHUNKING",  # RFC 3030
        "DSN",  # RFC 3461
        f"LIMITS RCPTMAX={max_recipients}",  # RFC 9422 §4.2
    ]
    if offers_tls:
        lines.append("STARTTLS")  # RFC 3207; never within TLS (§4.2)
    if offers_requiretls:
        lines.append("REQUIRETLS")  # RFC 8689 §2; never without TLS
    if mechanisms:
        lines.append(f"AUTH {' '.join(mechanisms)}")  # RFC 4954 §3
    lines += ["VRFY", "HELP"]  # RFC 5321 §4.1.1.1 lists them with EXPN
    return tuple(lines)


def transmission_type(
    mode: Mode, *, is_extended: bool, is_protected: bool, is_authenticated: bool, smtputf8: bool
) -> str:
    """The word after "with" in Received: SMTP, ESMTP, ESMTPSA, UTF8SMTP, LMTP … (RFC 3848, RFC 6531 §4.3)."""
    if mode is Mode.LMTP:
        base = "UTF8LMTP" if smtputf8 else "LMTP"
    elif not is_extended:
        return "SMTP"
    else:
        base = "UTF8SMTP" if smtputf8 else "ESMTP"
    return f"{base}{'S' if is_protected else ''}{'A' if is_authenticated else ''}"
