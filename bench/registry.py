# SPDX-License-Identifier: Apache-2.0
"""The families that `python -m bench` knows, by name; a family's module is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from bench.cells import Family

MODULES = {
    "smtp": "bench.smtp",
    "checked": "bench.checked",
    "pop3": "bench.pop3",
    "imap": "bench.imap",
    "relay": "bench.relay",
    "queue": "bench.queue_scale",
    "mailbox": "bench.mailbox_scale",
    "startup": "bench.startup",
    "day": "bench.working_day",
}


def families(names: list[str]) -> list[Family]:
    """In the order of the report. ValueError names what is unknown."""
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        raise ValueError(f"unknown families: {', '.join(unknown)}; known: {', '.join(MODULES)}")
    found: list[Family] = []
    for name, module in MODULES.items():
        if name in names and find_spec(module) is not None:
            family = import_module(module).FAMILY
            assert isinstance(family, Family), f"{module} has no FAMILY"
            found.append(family)
    return found
