# SPDX-License-Identifier: Apache-2.0
"""Line endings of letters that come from files of other programs."""

from __future__ import annotations


def with_crlf(octets: bytes) -> bytes:
    """Every line ends in CRLF, as it is kept and sent here; files often have LF alone, some CR alone."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def with_lf(octets: bytes) -> bytes:
    """Every line that ends in CRLF ends in LF, as in the files of maildirs and mboxes."""
    return octets.replace(b"\r\n", b"\n")
