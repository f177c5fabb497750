# SPDX-License-Identifier: Apache-2.0
"""Whole servers for tests. Modules with `ON_BOTH_LOOPS = True` run on uvloop and on plain asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from posthouse.services import guard
from tests.system.post import Post, furnish, open_post


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], Any]]:
    if getattr(item.module, "ON_BOTH_LOOPS", False):  # type: ignore[attr-defined]  # functions have a module
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("system") / "template"
    folder.mkdir()
    furnish(folder)
    return folder


@pytest.fixture
async def opener(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Opens servers with settings; they are closed, and searched for leavings, after the test."""
    monkeypatch.setattr(guard, "FAILURE_DELAY", 0.0)  # seconds that a wrong password costs
    opened: list[Post] = []

    async def open_one(folder: str = "data", **options: Any) -> Post:
        post = await open_post(template, tmp_path / folder, **options)
        opened.append(post)
        return post

    yield open_one
    for post in opened:
        await post.close()


@pytest.fixture
async def post(opener: Callable[..., Any]) -> Post:
    """A server with nothing special."""
    opened: Post = await opener()
    return opened
