# SPDX-License-Identifier: Apache-2.0
"""IMAP libraries from PyPI and npm that tools/install_interop.sh puts under var/interop."""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .imap_server import Person
from .programs import PATIENCE, REMEDY, ROOT, found

PYTHON = ROOT / "var" / "interop" / "python"
NODE = ROOT / "var" / "interop" / "node"


def load(name: str) -> ModuleType:
    """A Python package of that folder; it comes after all others, so that it hides none of the project's."""
    for path in map(str, PYTHON.glob("lib/python3*/site-packages")):
        if path not in sys.path:
            sys.path.append(path)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        pytest.skip(f"{name} is not installed: {REMEDY}")


class Imapflow:
    """Node's imapflow in a process of its own: a line of JSON is a call, a line of JSON its answer or an event."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._events: list[dict[str, Any]] = []
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, *args: Any) -> Any:
        """What the method gave. Octets are bytes on this side, both ways."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": method, "args": _packed(args)}) + "\n")
        self._process.stdin.flush()
        while True:
            said = self._next()
            if "event" in said:
                self._events.append(said)
            elif "error" in said:
                pytest.fail(f"imapflow's {method}: {said['error']}\n" + "\n".join(self.log[-30:]))
            else:
                return _unpacked(said["value"])

    def event(self, name: str) -> Any:
        """Wait for the next event of that name."""
        while True:
            for at, said in enumerate(self._events):
                if said["event"] == name:
                    return _unpacked(self._events.pop(at)["value"])
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        try:
            return self._said.get(timeout=PATIENCE)
        except queue.Empty:
            pytest.fail("imapflow does not answer:\n" + "\n".join(self.log[-30:]))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "log" in said:
                self.log.append(said["log"])
            else:
                self._said.put(said)


@contextlib.contextmanager
def open_imapflow(person: Person, *, tls: str = "implicit", **options: Any) -> Iterator[Imapflow]:
    """Logged in."""
    if found("node") is None or not (NODE / "node_modules" / "imapflow").exists():
        pytest.skip(f"imapflow is not installed: {REMEDY}")
    settings = {
        "host": "localhost",
        "port": person.port(tls),
        "secure": tls == "implicit",
        "doSTARTTLS": tls == "starttls",
        "auth": {"user": person.login, "pass": person.password},
        "tls": {"ca": person.server.certificate.read_text()},
        **options,
    }
    with subprocess.Popen(
        ["node", str(Path(__file__).with_name("imap_imapflow.cjs")), str(NODE), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        imapflow = Imapflow(process)
        try:
            yield imapflow
            imapflow.call("logout")
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$octets": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_packed(each) for each in value]
    if isinstance(value, dict):
        return {key: _packed(each) for key, each in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(each) for each in value]
    if isinstance(value, dict):
        if "$octets" in value:
            return base64.b64decode(value["$octets"])
        return {key: _unpacked(each) for key, each in value.items()}
    return value
