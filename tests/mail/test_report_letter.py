# SPDX-License-Identifier: Apache-2.0
"""Letters that carry reports, as RFC 9990 §3.5.2 and RFC 8460 §5.3 want them."""

from __future__ import annotations

import email
import email.policy
import gzip
import re

from posthouse.mail.header import scan_header
from posthouse.services.report_reading import read_letter
from tests.mailauth.reports import BEGIN, END, aggregate, dmarc_letter_of, tls, tls_letter_of

# The ABNF of RFC 9990 §3.5.2 after unfolding; a dot-atom as RFC 5322 has it.
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
SUBJECT = re.compile(rf"Report Domain: +(\S+) +Submitter: +(\S+) +Report-ID: +<({ATOM}@{ATOM})>")
FILE = re.compile(r"([a-z0-9.-]+)!([a-z0-9.-]+)!(\d+)!(\d+)\.(xml|json)\.gz")


def test_dmarc() -> None:
    octets = dmarc_letter_of("bob.test", "postmaster@reporter.test")
    assert octets.isascii()
    assert b"\n" not in octets.replace(b"\r\n", b"")
    letter = email.message_from_bytes(octets, policy=email.policy.default)
    subject = SUBJECT.fullmatch(letter["subject"])
    assert subject is not None
    assert subject.groups() == ("bob.test", "reporter.test", aggregate("bob.test").report_id)
    assert letter["auto-submitted"] == "auto-generated"
    text, attached = letter.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/gzip"
    name = FILE.fullmatch(attached.get_filename())
    assert name is not None
    assert name.groups() == ("reporter.test", "bob.test", str(BEGIN), str(END), "xml")
    assert gzip.decompress(attached.get_content()).startswith(b"<?xml")
    assert read_letter(memoryview(octets), b"") == aggregate("bob.test")


def test_tls() -> None:
    octets = tls_letter_of("bob.test", "postmaster@reporter.test")
    letter = email.message_from_bytes(octets, policy=email.policy.default)
    assert letter.get_content_type() == "multipart/report"
    assert letter.get_param("report-type") == "tlsrpt"
    assert (letter["tls-report-domain"], letter["tls-report-submitter"]) == ("bob.test", "reporter.test")
    assert letter["tls-required"] == "No"
    text, attached = letter.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    name = FILE.fullmatch(attached.get_filename())
    assert name is not None
    assert name[5] == "json"
    assert read_letter(memoryview(octets), b"") == tls("bob.test")


def test_a_long_domain_makes_no_line_that_is_too_long() -> None:
    domain = ".".join(["x" * 60] * 3)
    octets = dmarc_letter_of(domain, "postmaster@reporter.test")
    assert max(len(line) for line in octets.split(b"\r\n")) <= 998
    subject = b" ".join((scan_header(octets).get(b"subject") or b"").split()).decode()
    found = SUBJECT.fullmatch(subject)
    assert found is not None
    assert found[1] == domain
