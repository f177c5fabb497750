# SPDX-License-Identifier: Apache-2.0
"""Letters that carry a DMARC report (RFC 9990 §3.5.2) or a TLS report (RFC 8460 §5.3), as octets.

Invariant: pure ASCII with CRLF, one report per letter as an attachment named as the standards say, and marked as
written by a program (RFC 3834), so that no program answers it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.address import Address
from posthouse.mail.compose import (
    Part,
    address_field,
    field,
    message,
    multipart,
    structured_field,
    text_part,
    to_base64,
)
from posthouse.mail.dates import format_date


@dataclass(frozen=True, slots=True)
class ReportLetter:
    """`document` is gzipped. `begin` and `end` in epoch seconds; `boundary` must not occur in base64 text."""

    sender: Address
    organization: str
    to: Address
    domain: str
    report_id: str
    begin: int
    end: int
    document: bytes
    date: float
    boundary: str

    @property
    def submitter(self) -> str:
        return self.sender.domain.name

    def file_name(self, extension: str) -> str:
        """RFC 9990 §3.5.2, RFC 8460 §5.1; there is no unique-id, so that it cannot differ from the Report-ID."""
        return f"{self.submitter}!{self.domain}!{self.begin}!{self.end}.{extension}"

    def fields(self, message_id: str) -> bytes:
        subject = f"Report Domain: {self.domain} Submitter: {self.submitter} Report-ID: <{self.report_id}>"
        return b"".join(
            (
                address_field("From", [(self.organization, self.sender)]),
                address_field("To", [("", self.to)]),
                field("Subject", subject),
                structured_field("Date", format_date(self.date)),
                structured_field("Message-ID", f"<{message_id}>"),
                structured_field("Auto-Submitted", "auto-generated"),
            )
        )


def dmarc_letter(letter: ReportLetter, message_id: str) -> bytes:
    text = (
        f"This is a DMARC aggregate report about letters that say they are from {letter.domain}\n"
        f"and came to {letter.submitter} in one day (UTC). It is meant for programs:\n"
        "the attachment is XML (RFC 9990), compressed with gzip.\n"
    )
    attached = _attachment("application/gzip", letter.file_name("xml.gz"), letter.document)
    body = multipart("mixed", (text_part(text), attached), letter.boundary)
    return message(letter.fields(message_id), body)


def tls_letter(letter: ReportLetter, message_id: str) -> bytes:
    text = (
        f"This is a report about TLS on the way from {letter.submitter} to {letter.domain}\n"
        "in one day (UTC). It is meant for programs: the attachment is JSON (RFC 8460),\n"
        "compressed with gzip.\n"
    )
    attached = _attachment("application/tlsrpt+gzip", letter.file_name("json.gz"), letter.document)
    body = multipart("report", (text_part(text), attached), letter.boundary, parameters='; report-type="tlsrpt"')
    marks = structured_field("TLS-Report-Domain", letter.domain)
    marks += structured_field("TLS-Report-Submitter", letter.submitter)
    # RFC 8460 §3: it must arrive whatever is wrong with TLS there; RFC 8689 §3 has the word for that.
    marks += structured_field("TLS-Required", "No")
    return message(letter.fields(message_id) + marks, body)


def _attachment(media_type: str, name: str, document: bytes) -> Part:
    header = structured_field("Content-Type", f'{media_type}; name="{name}"')
    header += structured_field("Content-Disposition", f'attachment; filename="{name}"')
    header += b"Content-Transfer-Encoding: base64\r\n"
    return Part(header, to_base64(document))
