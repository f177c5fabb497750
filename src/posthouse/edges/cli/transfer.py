# SPDX-License-Identifier: Apache-2.0
"""posthouse import, posthouse export.

Invariant: an import that is run again adds only what is missing; an export overwrites nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from posthouse.edges.cli.asking import (
    Api,
    AsJson,
    Data,
    PasswordStdin,
    answer,
    ask,
    backend_of,
    group,
    read_password,
    refuse,
)
from posthouse.edges.cli.backend import Remote, Stop
from posthouse.edges.cli.tables import plural

if TYPE_CHECKING:
    from posthouse.edges.cli.foreign import ForeignLetter
    from posthouse.edges.cli.writing import Sink

imports = group("Put letters of other programs and servers into an account.")
exports = group("Write an account's letters into files.")

# Letters of one request, which is one unit of work: some tens of milliseconds, for which new mail waits.
BATCH_LETTERS = 100
BATCH_OCTETS = 4 << 20
DAMAGED = "5.3.0"  # the status of a letter that the disk has lost or changed
REASONS = 20  # letters that were not imported, told one by one
PORTS = {"implicit": 995, "stls": 110, "none": 110}
_PORT = re.compile(r"[0-9]{1,5}")

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its address.", show_default=False)]
Into = Annotated[str, typer.Option("--mailbox", metavar="NAME", help="Made when it is not there.")]


@imports.command("maildir")
def import_maildir(
    ctx: typer.Context,
    account: Account,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False, show_default=False)],
    data: Data,
    mailbox: Annotated[
        str | None, typer.Option("--mailbox", metavar="NAME", help="Put all there, not each folder into its own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A maildir with its folders; flags, keywords and dates are kept."""
    from posthouse.edges.cli import foreign

    _import(ctx, data, account, foreign.maildir(folder, mailbox), as_json=as_json)


@imports.command("mbox")
def import_mbox(
    ctx: typer.Context,
    account: Account,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, show_default=False)],
    data: Data,
    mailbox: Into = "INBOX",
    as_json: AsJson = False,
) -> None:
    """An mbox file; flags of its Status fields and dates are kept."""
    from posthouse.edges.cli import foreign

    _import(ctx, data, account, foreign.mbox(file, mailbox), as_json=as_json)


@imports.command("eml")
def import_eml(
    ctx: typer.Context,
    account: Account,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", exists=True, show_default=False)],
    data: Data,
    mailbox: Into = "INBOX",
    as_json: AsJson = False,
) -> None:
    """Files of one letter each; the date is that of the letter's own header."""
    from posthouse.edges.cli import foreign

    _import(ctx, data, account, foreign.eml(paths, mailbox), as_json=as_json)


@imports.command("pop3")
def import_pop3(
    ctx: typer.Context,
    account: Account,
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", show_default=False)],
    data: Data,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Login name there.", show_default=False)],
    password_stdin: PasswordStdin = False,
    tls: Annotated[
        str,
        typer.Option("--tls", metavar="implicit|stls|none", help="Without TLS the password can be read on the way."),
    ] = "implicit",
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Accept any certificate.")] = False,
    mailbox: Into = "INBOX",
    as_json: AsJson = False,
) -> None:
    """The mailbox at another server, over POP3. Nothing is removed there."""
    from posthouse.edges.cli.foreign import ForeignLetter, letter_date
    from posthouse.mail.lines import with_crlf

    if tls not in PORTS:
        raise typer.BadParameter(f"--tls {tls}: write implicit, stls or none")
    name, port = host_and_port(host, tls)
    backend = backend_of(ctx)
    password, is_made = read_password(backend, from_stdin=password_stdin)
    if is_made:
        raise typer.BadParameter("the password of the other mailbox is needed: type it or use --password-stdin")
    remote = Remote(
        host=name,
        port=port,
        user=user,
        password=password,
        tls=tls,
        is_verified=not no_verify,
    )

    def letters() -> Iterator[ForeignLetter]:
        for number, found in enumerate(backend.remote_letters(remote), 1):
            octets = with_crlf(found)
            yield ForeignLetter(f"{host}, letter {number}", octets, mailbox, received_at=letter_date(octets))

    _import(ctx, data, account, letters(), as_json=as_json)


def host_and_port(text: str, tls: str) -> tuple[str, int]:
    """`HOST` or `HOST:PORT`; without one the usual port for this kind of TLS."""
    name, colon, port = text.rpartition(":")
    if not colon:
        return text, PORTS[tls]
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"{text}: write HOST or HOST:PORT")
    return name, int(port)


def _import(ctx: typer.Context, data: Path, account: str, letters: Iterator[ForeignLetter], *, as_json: bool) -> None:
    done = ask(ctx, data, lambda api: _Import(api, account).run(letters), as_json=as_json)

    def tell() -> None:
        for box, count in done["mailboxes"].items():
            typer.echo(f"{box}: {plural(count, 'letter')}")
        typer.echo(f"{plural(done['imported'], 'letter')} imported, {done['known']} were there already.")

    if not done["refused"]:
        answer(done, tell, as_json=as_json)
        return
    told = [f"{each['place']}: {each['reason']}" for each in done["refused"][:REASONS]]
    more = len(done["refused"]) - len(told)
    told += [f"and {more} more"] if more else []
    if as_json:
        answer(done, tell, as_json=True)
        for line in told:
            typer.echo(f"posthouse: not imported: {line}", err=True)
        raise typer.Exit(1)
    tell()
    refuse(Stop(*(f"not imported: {line}" for line in told)), as_json=False)


class _Import:
    """Letters into one account, in order. What a mailbox holds already is asked once, by digest."""

    def __init__(self, api: Api, account: str) -> None:
        self._api = api
        self._account = account
        self._known: dict[str, set[str]] = {}
        self._batch: list[tuple[ForeignLetter, str]] = []  # with their digests
        self._octets = 0
        self._done: dict[str, Any] = {"imported": 0, "known": 0, "mailboxes": {}, "refused": []}

    async def run(self, letters: Iterator[ForeignLetter]) -> dict[str, Any]:
        boxes = {each["name"] for each in await self._api.get("accounts", self._account, "mailboxes")}
        source = _Source(letters)
        try:
            while some := await asyncio.to_thread(source.take):
                for letter in some:
                    if letter.mailbox not in self._known:
                        is_there = letter.mailbox in boxes
                        self._known[letter.mailbox] = await self._digests(letter.mailbox) if is_there else set()
                    await self._one(letter)
        finally:  # what was read before a fault of the source comes in too
            await self._send()
        return self._done

    async def _digests(self, mailbox: str) -> set[str]:
        return {each["digest"] async for each in pages(self._api, self._account, mailbox)}

    async def _one(self, letter: ForeignLetter) -> None:
        digest = hashlib.sha256(letter.octets).hexdigest()
        if any(each == digest and waiting.mailbox == letter.mailbox for waiting, each in self._batch):
            await self._send()
        if digest in self._known[letter.mailbox]:
            self._done["known"] += 1
            return
        if self._octets + len(letter.octets) > BATCH_OCTETS:
            await self._send()
        self._batch.append((letter, digest))
        self._octets += len(letter.octets)
        if len(self._batch) == BATCH_LETTERS:
            await self._send()

    async def _send(self) -> None:
        """What waits, in one request."""
        batch, self._batch, self._octets = self._batch, [], 0
        if not batch:
            return
        if len(batch) == 1:  # it may be larger than a batch can be
            answers = [await self._send_alone(batch[0][0])]
        else:
            rows = [_row(letter) for letter, _ in batch]
            content = msgspec.msgpack.encode(rows)
            answers = await self._api.send("accounts", self._account, "letter-batches", content=content)
        done = self._done
        for (letter, digest), told in zip(batch, answers, strict=True):
            if "error" in told:
                done["refused"].append({"place": letter.place, "reason": told["error"]})
                continue
            self._known[letter.mailbox].add(digest)
            done["imported"] += 1
            done["mailboxes"][letter.mailbox] = done["mailboxes"].get(letter.mailbox, 0) + 1

    async def _send_alone(self, letter: ForeignLetter) -> dict[str, Any]:
        query: dict[str, str | float] = {"mailbox": letter.mailbox}
        if letter.flags:
            query["flags"] = ",".join(letter.flags)
        if letter.keywords:
            query["keywords"] = ",".join(letter.keywords)
        if letter.received_at is not None:
            query["received_at"] = letter.received_at
        try:
            await self._api.send("accounts", self._account, "letters", content=letter.octets, **query)
        except Stop as stop:
            if not stop.status:  # not about this letter: the server, or the connection to it
                raise
            return {"error": str(stop)}
        return {}


def _row(letter: ForeignLetter) -> dict[str, Any]:
    """As the admin API takes it in a batch."""
    return {
        "octets": letter.octets,
        "mailbox": letter.mailbox,
        "flags": letter.flags,
        "keywords": letter.keywords,
        "received_at": letter.received_at,
    }


class _Source:
    """Letters in portions; a fault of what they come from is told behind those that were read before it."""

    def __init__(self, letters: Iterator[ForeignLetter]) -> None:
        self._letters = letters
        self._fault: Exception | None = None

    def take(self) -> list[ForeignLetter]:
        """The next ones; none: that was all. It may block."""
        if self._fault is not None:
            raise self._fault
        found: list[ForeignLetter] = []
        octets = 0
        try:
            while len(found) < BATCH_LETTERS and octets < BATCH_OCTETS:
                letter = next(self._letters)
                found.append(letter)
                octets += len(letter.octets)
        except StopIteration:
            return found
        except Exception as fault:
            if not found:
                raise
            self._fault = fault
        return found


async def pages(api: Api, account: str, mailbox: str) -> Any:
    """Every letter of a mailbox, by UID."""
    after = 0
    while page := await api.get("accounts", account, "letters", mailbox=mailbox, after=after):
        for each in page:
            yield each
        after = page[-1]["uid"]


# --- export ---------------------------------------------------------------------------------------

Only = Annotated[
    str | None, typer.Option("--mailbox", metavar="NAME", help="Only this one; default: all.", show_default=False)
]
Target = Annotated[Path, typer.Argument(metavar="FOLDER", help="Made when it is not there.", show_default=False)]


@exports.command("maildir")
def export_maildir(
    ctx: typer.Context, account: Account, folder: Target, data: Data, mailbox: Only = None, as_json: AsJson = False
) -> None:
    """A maildir with a folder for each mailbox (Maildir++); run again it adds what is new."""
    from posthouse.edges.cli.writing import MaildirSink

    _export(ctx, data, account, MaildirSink(folder), mailbox, as_json=as_json)


@exports.command("mbox")
def export_mbox(
    ctx: typer.Context,
    account: Account,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Must not be there yet.", show_default=False)],
    data: Data,
    mailbox: Annotated[str, typer.Option("--mailbox", metavar="NAME", help="Which one.")] = "INBOX",
    as_json: AsJson = False,
) -> None:
    """One mailbox as an mbox file, with flags in Status fields."""
    from posthouse.edges.cli.writing import MboxSink

    _export(ctx, data, account, MboxSink(file), mailbox, as_json=as_json)


@exports.command("eml")
def export_eml(
    ctx: typer.Context, account: Account, folder: Target, data: Data, mailbox: Only = None, as_json: AsJson = False
) -> None:
    """A file for each letter, in a folder for each mailbox; run again it adds what is new."""
    from posthouse.edges.cli.writing import EmlSink

    _export(ctx, data, account, EmlSink(folder), mailbox, as_json=as_json)


def _export(ctx: typer.Context, data: Path, account: str, sink: Sink, mailbox: str | None, *, as_json: bool) -> None:
    async def question(api: Api) -> dict[str, Any]:
        boxes = await api.get("accounts", account, "mailboxes")
        names = [mailbox] if mailbox else [each["name"] for each in boxes]
        done: dict[str, Any] = {"written": 0, "known": 0, "mailboxes": {}, "damaged": []}
        try:
            with sink:
                for name in names:
                    count = 0
                    async for each in pages(api, account, name):
                        if sink.has(name, each):
                            done["known"] += 1
                            continue
                        try:
                            octets = await api.fetch("accounts", account, "letters", each["letter"])
                        except Stop as stop:
                            if stop.status != DAMAGED:
                                raise
                            done["damaged"].append({"mailbox": name, "uid": each["uid"], "reason": str(stop)})
                            continue
                        sink.write(name, each, octets)
                        count += 1
                    done["written"] += count
                    done["mailboxes"][name] = count
        except OSError as error:
            raise Stop(f"{error.filename}: cannot be written: {error.strerror}") from None
        return done

    done = ask(ctx, data, question, as_json=as_json)

    def tell() -> None:
        for name, count in done["mailboxes"].items():
            if count:
                typer.echo(f"{name}: {plural(count, 'letter')}")
        known = f", {done['known']} were there already" if done["known"] else ""
        typer.echo(f"{plural(done['written'], 'letter')} written{known}.")

    answer(done, tell, as_json=as_json)
    if done["damaged"]:  # all the others are written: who saves what is left gets all of it
        for each in done["damaged"][:REASONS]:
            typer.echo(f"posthouse: not written: {each['mailbox']}, UID {each['uid']}: {each['reason']}", err=True)
        more = len(done["damaged"]) - REASONS
        if more > 0:
            typer.echo(f"posthouse: and {more} more", err=True)
        raise typer.Exit(1)
