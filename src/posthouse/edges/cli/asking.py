# SPDX-License-Identifier: Apache-2.0
"""How every command runs: its options, its requests, its answer on standard output, its refusal on standard error.

Invariant: with --json standard output holds exactly one JSON document, also when the command is refused.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from urllib.parse import quote

import typer

from posthouse.edges.cli.backend import Backend, Stop

if TYPE_CHECKING:  # takes a tenth of a second, and `--help` needs none of it
    from httpx2 import AsyncClient

T = TypeVar("T")

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="POSTHOUSE_DATA",
        metavar="DIR",
        help="The data directory.",
        show_default=False,
        readable=False,  # looked at when it is opened: what is wrong with it is no mistake of usage
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]


def group(text: str) -> typer.Typer:
    """A group of commands, or the whole."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 120, "help_option_names": ["--help", "-h"]},
    )


class Api:
    """Requests to the admin API. Path segments are given one by one and quoted here."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, *path: str, **query: str | int) -> Any:
        return await self._ask("GET", path, params=query)

    async def post(self, *path: str, **body: Any) -> Any:
        return await self._ask("POST", path, json=body)

    async def put(self, *path: str, **body: Any) -> Any:
        return await self._ask("PUT", path, json=body)

    async def patch(self, *path: str, **body: Any) -> Any:
        return await self._ask("PATCH", path, json=body)

    async def delete(self, *path: str, **body: Any) -> Any:
        return await self._ask("DELETE", path, **({"json": body} if body else {}))

    async def send(self, *path: str, content: bytes, **query: str | float) -> Any:
        """A letter as it is."""
        return await self._ask("POST", path, content=content, params=query)

    async def fetch(self, *path: str) -> bytes:
        """A letter as it is."""
        return (await self._request("GET", path)).content  # type: ignore[no-any-return]  # see _request

    async def _ask(self, method: str, path: tuple[str, ...], **parts: Any) -> Any:
        return (await self._request(method, path, **parts)).json()

    async def _request(self, method: str, path: tuple[str, ...], **parts: Any) -> Any:
        import httpx2

        url = "/v1/" + "/".join(quote(part, safe="@") for part in path)
        try:
            answer = await self._client.request(method, url, **parts)
        except httpx2.TransportError as fault:
            said = str(fault) or type(fault).__name__
            raise Stop(f"the server went away while it was asked ({said}); see its log") from None
        if answer.is_success:
            return answer
        try:
            told = answer.json()
        except ValueError:
            told = {}
        raise Stop(*told.get("error", f"HTTP {answer.status_code}").splitlines(), status=told.get("status", ""))


def backend_of(ctx: typer.Context) -> Backend:
    backend: Backend = ctx.obj
    return backend


def ask(ctx: typer.Context, folder: Path, question: Callable[[Api], Awaitable[T]], *, as_json: bool) -> T:
    """Ask the admin API of a data directory; a refusal ends the command."""
    backend = backend_of(ctx)

    async def main() -> T:
        async with backend.client(folder) as client:
            return await question(Api(client))

    return guarded(lambda: asyncio.run(main()), as_json=as_json)


def guarded(work: Callable[[], T], *, as_json: bool) -> T:
    """Run; a Stop is told on standard error and ends the command with 1."""
    try:
        return work()
    except Stop as stop:
        refuse(stop, as_json=as_json)


def refuse(stop: Stop, *, as_json: bool) -> NoReturn:
    for reason in stop.reasons:
        typer.echo(f"posthouse: {reason}", err=True)
    if as_json:
        document = {"error": "\n".join(stop.reasons)}
        show_json(document | ({"status": stop.status} if stop.status else {}))
    raise typer.Exit(1)


def answer(document: Any, tell: Callable[[], None], *, as_json: bool) -> None:
    """The command's answer: a document for scripts, or what `tell` prints for people."""
    if as_json:
        show_json(document)
    else:
        tell()


def show_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def read_password(backend: Backend, *, from_stdin: bool, asks: bool = True) -> tuple[str, bool]:
    """The password and whether it was made here: the first line of standard input, else a prompt on a terminal
    (nothing typed: one is made), else one is made. Never from an argument: others see those in the process list."""
    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
        if not text:
            raise typer.BadParameter("standard input has no first line to take the password from")
        return text, False
    if asks and sys.stdin.isatty():
        text = typer.prompt(
            "Password (nothing: one is made)", default="", hide_input=True, show_default=False, err=True
        )
        if text:
            if typer.prompt("Once more", hide_input=True, err=True) != text:
                raise typer.BadParameter("the two passwords differ")
            return text, False
    return backend.new_password(), True
