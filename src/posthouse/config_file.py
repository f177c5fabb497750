# SPDX-License-Identifier: Apache-2.0
"""Print posthouse.toml with the manual as comments, and the settings reference, both from config.Settings."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from posthouse.config import Settings

HEADER = """\
# posthouse: settings. Lines that begin with # are the defaults; take the # away to change one.
# `posthouse check` says what is wrong here; SIGHUP (systemctl reload) reads it again.
"""


def render(values: Mapping[str, Any]) -> str:
    """The commented file; `values` are the settings to write out, as nested tables (`{"listen": {"smtp": […]}}`)."""
    lines = [HEADER]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        given = values.get(name)
        if isinstance(section, type) and issubclass(section, BaseModel):
            lines.extend(_section(name, section, given or {}))
        elif name == "routes":
            lines.extend(_routes(field, given or {}))
        else:
            lines.append(_comment(field.description or ""))
            lines.append(f"{name} = {_toml(given)}\n")
    return "\n".join(lines)


def _section(name: str, section: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n[{name}]"
    if section.__doc__:
        yield _comment(section.__doc__)
    for key, field in section.model_fields.items():
        if key == "destinations":
            yield '# [queue.destinations."bob.test"]   exceptions: retry, expire, connections'
            continue
        note = _comment(field.description or "")
        if key in given:
            yield f"{note}\n{key} = {_toml(given[key])}"
        else:
            yield f"{note}\n# {key} = {_toml(field.default)}"
    yield ""


def _routes(field: FieldInfo, given: Mapping[str, str]) -> Iterator[str]:
    yield "\n[routes]"
    yield _comment(field.description or "")
    for domain, host in given.items():
        yield f"{json.dumps(domain)} = {_toml(host)}"
    yield ""


def _comment(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 110, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    return json.dumps(value, ensure_ascii=False)


def reference() -> str:
    """docs/reference/settings.md."""
    lines = ["# Settings", "", "Generated from `src/posthouse/config.py` by `make reference`; do not edit.", ""]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            lines += [f"## [{name}]", "", " ".join((section.__doc__ or "").split()), "", *_table(section), ""]
        else:
            lines += [f"## {name}", "", field.description or "", ""]
    return "\n".join(lines)


def _table(section: type[BaseModel]) -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "| --- | --- | --- |"
    for key, field in section.model_fields.items():
        default = "required" if field.is_required() else f"`{_toml(field.default)}`"
        yield f"| `{key}` | {default} | {field.description} |"
