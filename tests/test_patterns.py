# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of the house keep to what every supported Python matches alike."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from re import _parser as parser  # type: ignore[attr-defined]  # the standard library's only way to look inside a pattern

import posthouse
from posthouse.mail.header import scan_header


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    for module in pkgutil.walk_packages(posthouse.__path__, "posthouse."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


def uses_possessive(pattern: re.Pattern[str] | re.Pattern[bytes]) -> bool:
    return any(word in repr(parser.parse(pattern.pattern, pattern.flags)) for word in ("POSSESSIVE", "ATOMIC"))


def test_no_pattern_has_possessive_quantifiers() -> None:
    """Python 3.11.0 to 3.11.4 (Debian 12's) lose groups inside them: no header field was found there at all."""
    found = dict(patterns())
    assert len(found) > 40
    assert [name for name, pattern in found.items() if uses_possessive(pattern)] == []
    assert uses_possessive(re.compile("(a++)")), "the test sees what it looks for"


def test_header_fields_are_found_by_this_python() -> None:
    scan = scan_header(b"From: a@b.test\r\nMessage-Id: <1.abc@elsewhere.test>\r\n\r\nx\r\n")
    assert scan.message_id == b"1.abc@elsewhere.test"
