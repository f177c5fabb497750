# SPDX-License-Identifier: Apache-2.0
"""posthouse.toml: settings or ConfigError with a line for each mistake, whatever the file holds."""

from __future__ import annotations

import contextlib

from fuzz.choices import Choices
from posthouse import config
from posthouse.config import ConfigError
from posthouse.config_file import render
from posthouse.config_values import MAX_DURATION
from posthouse.net.clock import SystemClock
from posthouse.net.resolver import DnsResolver
from posthouse.net.sockets import ListenFault, parse_listen_address
from posthouse.services.routing import StaticRoute


def _text_of(octets: bytes) -> config.Settings:
    return config.parse(octets, "posthouse.toml")


DICTIONARY = "toml.dict"
MAX_SIZE = 6000  # numbers of more than 4,300 digits among them


def target(data: bytes) -> None:
    choices = Choices(data)
    octets = b'hostname = "mail.example.test"\n' + choices.rest if choices.flag() else data
    try:
        settings = _text_of(octets)
    except ConfigError as error:
        problems = error.problems
    else:
        assert settings.queue.expire <= MAX_DURATION
        _used(settings)
        rendered = render(settings.model_dump(mode="json", include={"hostname"}))
        assert _text_of(rendered.encode()).hostname == settings.hostname
        return
    assert problems, "a mistake without a word"
    assert all(line.startswith("posthouse.toml: ") for line in problems)


def _used(settings: config.Settings) -> None:
    """Whoever reads a value has it, or its own words for what is wrong with it."""
    for _, addresses in settings.listen:
        for text in addresses:
            with contextlib.suppress(ListenFault):
                parse_listen_address(text)
    for route in settings.routes.values():
        with contextlib.suppress(ValueError):
            StaticRoute.parse(route.host, tls=route.tls)
    with contextlib.suppress(ValueError):
        DnsResolver(SystemClock(), settings.resolver.servers)
