# SPDX-License-Identifier: Apache-2.0
"""TLS reports as values and as JSON (RFC 8460 §4.4), ours and those of others.

Invariant: reading takes the types that the schema has and the few others that are seen, and nothing else; text and
lists have limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from posthouse.mail.address import AddressError, Domain
from posthouse.mailauth.unpacking import ReportFault, printable

MAX_JSON = 2 << 20  # octets unpacked; real ones have some thousand, and an object of three octets takes two hundred
MAX_POLICIES = 1000
MAX_DETAILS = 10_000  # of all policies
MAX_TEXT = 1_000  # characters of one text that are kept
LAST_SECOND = 253_402_300_799  # of the year 9999, as dates have four digits for it
MAX_LINES = 100  # of a policy, of MX patterns

POLICY_TYPES = ("tlsa", "sts", "no-policy-found")


@dataclass(frozen=True, slots=True)
class Failure:
    """§4.3: sessions that failed alike."""

    result: str
    count: int
    sending_ip: str = ""
    receiving_mx: str = ""
    receiving_helo: str = ""
    receiving_ip: str = ""
    reason: str = ""
    more: str = ""  # additional-information, a URI


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """One policy and what came of it. `text`: its lines; `mx_patterns`: those of MTA-STS."""

    kind: str
    domain: str
    text: tuple[str, ...] = ()
    mx_patterns: tuple[str, ...] = ()
    succeeded: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsReport:
    """`begin` and `end` in epoch seconds."""

    organization: str
    contact: str
    report_id: str
    begin: int
    end: int
    policies: tuple[PolicyResult, ...]

    @property
    def succeeded(self) -> int:
        return sum(each.succeeded for each in self.policies)

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self.policies)

    @property
    def submitter(self) -> str:
        """§5.3: the domain of the contact address; "" where it is none."""
        try:
            return Domain.parse(self.contact.strip("<> ").rpartition("@")[2]).name
        except AddressError:
            return ""


# --- writing --------------------------------------------------------------------------------------


def render(report: TlsReport) -> bytes:
    """I-JSON (RFC 7493): UTF-8, each name once."""
    return msgspec.json.encode(
        {
            "organization-name": report.organization,
            "date-range": {"start-datetime": _moment(report.begin), "end-datetime": _moment(report.end)},
            "contact-info": report.contact,
            "report-id": report.report_id,
            "policies": [_policy(each) for each in report.policies],
        }
    )


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _policy(result: PolicyResult) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": result.kind}
    if result.text:
        policy["policy-string"] = list(result.text)
    policy["policy-domain"] = result.domain
    if result.mx_patterns:
        policy["mx-host"] = list(result.mx_patterns)
    summary = {"total-successful-session-count": result.succeeded, "total-failure-session-count": result.failed}
    told: dict[str, Any] = {"policy": policy, "summary": summary}
    if result.failures:
        told["failure-details"] = [_failure(each) for each in result.failures]
    return told


def _failure(failure: Failure) -> dict[str, Any]:
    told = {
        "result-type": failure.result,
        "sending-mta-ip": failure.sending_ip,
        "receiving-mx-hostname": failure.receiving_mx,
        "receiving-mx-helo": failure.receiving_helo,
        "receiving-ip": failure.receiving_ip,
        "failed-session-count": failure.count,
        "additional-information": failure.more,
        "failure-reason-code": failure.reason,
    }
    return {name: value for name, value in told.items() if value != ""}


# --- reading --------------------------------------------------------------------------------------

_Text = str | None
_Texts = list[str] | str | None  # the schema of MX patterns changed from a string to an array in the drafts
_Count = int | float | None


class _Details(msgspec.Struct, rename="kebab"):
    result_type: _Text = None
    sending_mta_ip: _Text = None
    receiving_mx_hostname: _Text = None
    receiving_mx_helo: _Text = None
    receiving_ip: _Text = None
    failed_session_count: _Count = 0
    additional_information: _Text = None
    failure_reason_code: _Text = None


class _Policy(msgspec.Struct, rename="kebab"):
    policy_type: _Text = None
    policy_string: _Texts = None
    policy_domain: _Text = None
    mx_host: _Texts = None


class _Summary(msgspec.Struct, rename="kebab"):
    total_successful_session_count: _Count = 0
    total_failure_session_count: _Count = 0


class _Result(msgspec.Struct, rename="kebab"):
    policy: _Policy
    summary: _Summary
    failure_details: list[_Details] | None = None


class _Range(msgspec.Struct, rename="kebab"):
    start_datetime: datetime
    end_datetime: datetime


class _Report(msgspec.Struct, rename="kebab"):
    date_range: _Range
    report_id: str
    policies: list[_Result]
    organization_name: _Text = None
    contact_info: _Text = None


_decode = msgspec.json.Decoder(_Report).decode


def read_tls_report(octets: bytes) -> TlsReport:
    """Raises ReportFault."""
    if len(octets) > MAX_JSON:
        raise ReportFault(f"larger than {MAX_JSON} octets")
    try:
        found = _decode(octets.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReportFault(f"not a TLS report: {error}") from None
    details = sum(len(each.failure_details or ()) for each in found.policies)
    if len(found.policies) > MAX_POLICIES or details > MAX_DETAILS:
        raise ReportFault("it has too many policies or failures")
    if not found.policies:
        raise ReportFault("it has no policy")
    if not found.report_id:
        raise ReportFault("it has no report-id")
    return TlsReport(
        organization=_text(found.organization_name),
        contact=_text(found.contact_info),
        report_id=_text(found.report_id),
        begin=_seconds(found.date_range.start_datetime),
        end=_seconds(found.date_range.end_datetime),
        policies=tuple(_read_policy(each) for each in found.policies),
    )


def _seconds(moment: datetime) -> int:
    seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return min(max(seconds, 0), LAST_SECOND)


def _read_policy(found: _Result) -> PolicyResult:
    return PolicyResult(
        kind=_text(found.policy.policy_type).lower(),
        domain=_text(found.policy.policy_domain).lower().rstrip("."),
        text=_texts(found.policy.policy_string),
        mx_patterns=_texts(found.policy.mx_host),
        succeeded=_count(found.summary.total_successful_session_count),
        failed=_count(found.summary.total_failure_session_count),
        failures=tuple(_read_failure(each) for each in found.failure_details or ()),
    )


def _read_failure(found: _Details) -> Failure:
    return Failure(
        result=_text(found.result_type).lower(),
        count=_count(found.failed_session_count),
        sending_ip=_text(found.sending_mta_ip),
        receiving_mx=_text(found.receiving_mx_hostname),
        receiving_helo=_text(found.receiving_mx_helo),
        receiving_ip=_text(found.receiving_ip),
        reason=_text(found.failure_reason_code),
        more=_text(found.additional_information),
    )


def _text(value: str | None) -> str:
    return "" if value is None else printable(" ".join(value[:MAX_TEXT].split()))


def _texts(value: Sequence[str] | str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    lines = [value] if isinstance(value, str) else value
    return tuple(_text(each) for each in lines[:MAX_LINES])


def _count(value: float | None) -> int:
    """Sessions; what no day has is no count. Sums over all reports that are kept fit into 63 bits."""
    return int(value) if value is not None and 0 <= value < 1e10 else 0
