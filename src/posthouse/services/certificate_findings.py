# SPDX-License-Identifier: Apache-2.0
"""What `posthouse check` says of certificates that an authority gives. Invariant: as in findings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from posthouse.services.certificate_terms import CertificateStatus
from posthouse.services.findings import Finding

NOW = "mend it, then `posthouse certificate renew`"


def findings_of(statuses: Sequence[CertificateStatus]) -> list[Finding]:
    return [_finding(each) for each in statuses]


def _finding(status: CertificateStatus) -> Finding:
    what = f"certificate {status.name} of the authority"
    match status.state:
        case "by hand":
            text = f"{what} is not asked for: tls.certificates has one for {', '.join(status.names)}"
            return Finding("tls", "ok", text)
        case "waiting":
            if status.error:
                return Finding("tls", "error", f"{what} cannot be had: {status.error}", NOW)
            return Finding("tls", "warning", f"{what} is not there yet", "it is asked for while the server runs")
        case "revoked":
            text = f"{what} is revoked ({status.revoked_for}), and still served"
            if status.error:
                return Finding("tls", "error", f"{text}: {status.error}", NOW)
            if status.revoked_for == "cessation-of-operation":
                remedy = "take it out of [acme] and restart the server, or `posthouse certificate renew`"
            else:
                remedy = "start the server, which gets another one"
            return Finding("tls", "error", text, remedy)
        case "ended":
            reason = f": {status.error}" if status.error else ""
            remedy = NOW if status.error else "start the server, which renews it"
            return Finding("tls", "error", f"{what} has ended on {_day(status.expires_at)}{reason}", remedy)
        case "failing":
            text = f"{what} cannot be renewed and ends on {_day(status.expires_at)}: {status.error}"
            return Finding("tls", "warning", text, NOW)
        case _:
            renewal = f"good until {_day(status.expires_at)}, renewed about {_day(status.renew_at)}"
            if status.next_digest and status.next_from is None:
                remedy = "add the TLSA record of the next key that `posthouse dns` shows; it is not used before"
                return Finding("tls", "warning", f"{what}: its next key waits for DNS; {renewal}", remedy)
            return Finding("tls", "ok", f"{what}: {renewal}")


def _day(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
