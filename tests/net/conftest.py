# SPDX-License-Identifier: Apache-2.0
"""Modules with `ON_BOTH_LOOPS = True` run on uvloop and on plain asyncio; certificates for all of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from posthouse.net.certificate import ensure_self_signed
from posthouse.net.clock import SystemClock
from posthouse.net.tls import CertificateFiles, CertificateStore, LoopTlsUpgrader

NOW = SystemClock().wall()


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], Any]]:
    if getattr(item.module, "ON_BOTH_LOOPS", False):  # type: ignore[attr-defined]  # functions have a module
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """A self-signed certificate for mail.example.test."""
    return make_files(tmp_path_factory.mktemp("tls"), "mail.example.test")


def make_files(folder: Path, *names: str) -> CertificateFiles:
    made = CertificateFiles(folder / "certificate.pem", folder / "key.pem")
    ensure_self_signed(made.certificate, made.key, names, NOW)
    return made


@pytest.fixture(scope="session")
def upgrader(files: CertificateFiles) -> LoopTlsUpgrader:
    return LoopTlsUpgrader(CertificateStore([files], SystemClock()))


@pytest.fixture(scope="session")
def trusting(files: CertificateFiles) -> ssl.SSLContext:
    """A client that trusts that certificate."""
    return ssl.create_default_context(cafile=str(files.certificate))
