# SPDX-License-Identifier: Apache-2.0
"""Reading delivery status notifications: the RFC's examples, and everything that real software sends."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.dsn import Action
from posthouse.mail.dsn_reader import MAX_READ, parse_dsn
from posthouse.outcome import Status
from tests.mail.data import DATA, shared

# RFC 3464 appendix E.1, E.2 (part), E.3: what stands in their second parts.
SIMPLE = """\
Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;louisl@larry.slip.umd.edu
Final-Recipient: rfc822;louisl@larry.slip.umd.edu
Action: failed
Status: 4.0.0
Diagnostic-Code: smtp; 426 connection timed out
Last-Attempt-Date: Thu, 7 Jul 1994 17:15:49 -0400
"""
SEVERAL = """\
Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;arathib@vnet.ibm.com
Final-Recipient: rfc822;arathib@vnet.ibm.com
Action: failed
Status: 5.0.0 (permanent failure)
Diagnostic-Code: smtp; 550 'arathib@vnet.IBM.COM' is not a
 registered gateway user
Remote-MTA: dns; vnet.ibm.com

Original-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Final-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Action: delayed
Status: 4.0.0 (hpnjld.njd.jp.com: host name lookup failure)

Original-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Final-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; 550 user unknown
Remote-MTA: dns; sdcc13.ucsd.edu
"""
GATEWAY = """\
Reporting-MTA: dns; sun2.nsfnet-relay.ac.uk

Final-Recipient: rfc822;thomas@de-montfort.ac.uk
Status: 4.0.0 (unknown temporary failure)
Action: delayed
"""


def _letter(status: str, kind: str = "message/delivery-status", line_end: str = "\r\n") -> bytes:
    text = (
        'From: a@x.test\nContent-Type: multipart/report; report-type=delivery-status;\n boundary="b1"\n\n'
        f"preamble\n--b1\n\nwords\n--b1\nContent-Type: {kind}\n\n{status}\n--b1\n"
        "Content-Type: message/rfc822\n\nMessage-ID: <m@x>\n\nbody\n--b1--\nepilogue\n"
    )
    return text.replace("\n", line_end).encode()


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_the_rfcs_examples(line_end: str) -> None:
    found = parse_dsn(_letter(SEVERAL, line_end=line_end))
    assert found is not None
    assert found.reporting_mta == "cs.utk.edu"
    assert found.original_message_id == b"m@x"
    assert [(one.final_recipient, one.action, one.status) for one in found.recipients] == [
        ("arathib@vnet.ibm.com", Action.FAILED, Status(5, 0, 0)),
        ("johnh@hpnjld.njd.hp.com", Action.DELAYED, Status(4, 0, 0)),
        ("wsnell@sdcc13.ucsd.edu", Action.FAILED, Status(5, 0, 0)),
    ]
    assert found.recipients[0].diagnostic == "550 'arathib@vnet.IBM.COM' is not a registered gateway user"
    assert found.recipients[0].remote_mta == "vnet.ibm.com"


def test_times_are_read() -> None:
    found = parse_dsn(_letter(SIMPLE))
    assert found is not None
    (one,) = found.recipients
    assert one.last_attempt is not None
    assert one.last_attempt.seconds == 773615749
    assert one.original_recipient == "louisl@larry.slip.umd.edu"


def test_fields_come_in_any_order_and_with_odd_blank_lines() -> None:
    found = parse_dsn(_letter("\n\n" + GATEWAY.replace("\n\n", "\n \n\n\n"), "Message/Global-Delivery-Status"))
    assert found is not None
    assert [one.action for one in found.recipients] == [Action.DELAYED]


def test_everything_in_one_group_is_read_twice() -> None:
    found = parse_dsn(_letter(GATEWAY.replace("\n\n", "\n")))
    assert found is not None
    assert found.reporting_mta == "sun2.nsfnet-relay.ac.uk"
    assert found.recipients[0].final_recipient == "thomas@de-montfort.ac.uk"


@pytest.mark.parametrize(
    "octets", [b"", b"hello", b"Content-Type: text/plain\r\n\r\nhi", b"From x\n\nFrom: a@b\n\n--\n", b"\r"]
)
def test_what_is_no_report_is_none(octets: bytes) -> None:
    assert parse_dsn(octets) is None


@pytest.mark.parametrize("path", sorted((DATA / "bounces").glob("*/*.eml")), ids=lambda path: path.stem)
def test_samples_of_odd_software(path: Path) -> None:
    found = parse_dsn(path.read_bytes())
    if path.stem in ("rfc3834-01", "lhost-qmail-01"):
        assert found is None  # an automatic answer; a report in prose
        return
    assert found is not None
    if path.stem in ("lhost-postfix-01", "lhost-sendmail-01"):
        assert [(one.action, one.status) for one in found.recipients] == [(Action.FAILED, Status(5, 1, 1))]


def test_every_bounce_of_the_whole_set_is_read() -> None:
    """787 samples of 77 kinds of software: no failure, and a result for each that has the fields for programs."""
    read = [parse_dsn(path.read_bytes()) for path in sorted(shared("bounces").glob("*/*.eml"))]
    assert len(read) == 787
    reports = [one for one in read if one is not None]
    assert len(reports) == 422
    # Six have no group of recipient fields left after they were made anonymous.
    assert sum(1 for one in reports if one.recipients) >= 416


@pytest.mark.parametrize(
    "octets",
    [
        b"Content-Type: multipart/report; boundary=b\r\n\r\n" + b"--b\r\n" * 200_000,
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(10_000)),
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        + b"Final-Recipient: rfc822; a@b.test\r\n\r\n" * 20_000,
        b"Content-Type: message/delivery-status\r\n\r\n" + b"\r\n" * MAX_READ,
        b"\r\n " * 300_000,
    ],
    ids=["parts", "depth", "recipients", "empty lines", "folds"],
)
def test_hostile_reports_are_read_in_proportion(octets: bytes) -> None:
    parse_dsn(octets)


@given(
    st.lists(
        st.sampled_from([b"--b1", b"--", b"\r\n", b"\n", b"\r", b"Action: failed", b"Status: 5", b":", b" "]),
        max_size=40,
    )
)
def test_reading_never_fails(pieces: list[bytes]) -> None:
    parse_dsn(b"".join(pieces))
    parse_dsn(_letter("X").replace(b"X", b"".join(pieces)))
