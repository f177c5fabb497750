# SPDX-License-Identifier: Apache-2.0
"""Authentication-Results of anybody: read without an exception, written again it says the same, forged ones go away."""

from __future__ import annotations

from posthouse.mail.header import split_fields
from posthouse.mailauth.results import MAX_TEXT, AuthResults, authentication_results, parse_results, remove_claimed

DICTIONARY = "auth_results.dict"
OURS = "mx.bob.test"


def target(data: bytes) -> None:
    found = parse_results(data)
    if found is not None and found.is_well_formed and _is_plain(found):
        written = authentication_results(found.authserv_id, found.statements)
        assert parse_results(written.partition(b":")[2]) == found, "written again it says something else"
    kept = remove_claimed(data, [OURS])
    assert len(kept) <= len(data)
    for field in split_fields(kept):
        if field.name.lower() == b"authentication-results":
            results = parse_results(kept[field.value_start : field.end])
            assert results is not None, "a field of nobody stays"
            assert results.authserv_id.casefold() != OURS, "a forged field stays"
    others = [field for field in split_fields(data) if field.name.lower() != b"authentication-results"]
    assert [data[field.start : field.end] for field in others] == [
        kept[field.start : field.end] for field in split_fields(kept) if field.name.lower() != b"authentication-results"
    ], "it takes more than it should"


def _is_plain(found: AuthResults) -> bool:
    """What is written is printable ASCII of a limited length."""
    texts = [found.authserv_id, *(one.reason for one in found.statements)]
    texts += [one.value for statement in found.statements for one in statement.properties]
    return all(len(text) <= MAX_TEXT and text.isascii() and (text.isprintable() or not text) for text in texts)
