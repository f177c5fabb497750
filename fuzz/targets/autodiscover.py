# SPDX-License-Identifier: Apache-2.0
"""Autodiscover requests of strangers: read within bounds or refused, never with a DTD, never expanded."""

from __future__ import annotations

from xml.parsers import expat

from posthouse.edges.web.microsoft import MAX_VALUE, NotAutodiscover, read_request

DICTIONARY = "xml.dict"


def _has_dtd(data: bytes) -> bool:
    found: list[object] = []
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = lambda *words: found.append(words)
    parser.Parse(data, True)
    return bool(found)


def target(data: bytes) -> None:
    try:
        asked = read_request(data)
    except NotAutodiscover:
        return
    assert asked.address
    assert max(len(asked.address), len(asked.schema)) <= MAX_VALUE
    assert len(asked.address) + len(asked.schema) <= len(data), "more came out than went in"
    assert not _has_dtd(data), "a DTD was taken"
