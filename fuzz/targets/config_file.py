# SPDX-License-Identifier: Apache-2.0
"""posthouse.toml: settings or ConfigError with a line for each mistake, whatever the file holds."""

from __future__ import annotations

from pathlib import Path

from fuzz.choices import Choices
from posthouse import config
from posthouse.config import ConfigError
from posthouse.config_file import render


def _text_of(octets: bytes) -> config.Settings:
    return config.parse(octets, "posthouse.toml")


DICTIONARY = "toml.dict"


def target(data: bytes) -> None:
    choices = Choices(data)
    octets = b'hostname = "mail.example.test"\n' + choices.rest if choices.flag() else data
    try:
        settings = _text_of(octets)
    except ConfigError as error:
        assert error.problems
        assert all(line.startswith("posthouse.toml: ") for line in error.problems)
        return
    rendered = render(settings.model_dump(mode="json", include={"hostname"}))
    again = _text_of(rendered.encode())
    assert again.hostname == settings.hostname
    assert Path(settings.tls.certificates[0].key if settings.tls.certificates else "x")
