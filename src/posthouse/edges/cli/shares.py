# SPDX-License-Identifier: Apache-2.0
"""posthouse share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from posthouse.edges.cli.asking import AsJson, Data, answer, ask, group
from posthouse.edges.cli.tables import table

app = group(
    """Mailboxes that several people use (IMAP).

    People find them in their mail programs under "Other Users"; those of the account shared@DOMAIN (setting
    imap.shared) under "Shared".
    """
)


class May(StrEnum):
    READ = "read"
    WRITE = "write"
    MANAGE = "manage"


Owner = Annotated[str, typer.Argument(metavar="OWNER", help="The account that has the mailbox.", show_default=False)]
Mailbox = Annotated[str, typer.Argument(metavar="MAILBOX", help='As its owner has it: "INBOX", "Work/Plans".')]
Person = Annotated[
    str, typer.Argument(metavar="PERSON", help='An address here, or "anyone": all of this server.', show_default=False)
]


@app.command("add")
def add(
    ctx: typer.Context,
    owner: Owner,
    mailbox: Mailbox,
    person: Person,
    data: Data,
    may: Annotated[
        May, typer.Option(help="Read; write, which is also to put in and remove letters; manage, which is all.")
    ] = May.READ,
    rights: Annotated[str, typer.Option(help="Instead: letters of RFC 4314, such as lrs.", show_default=False)] = "",
    create: Annotated[bool, typer.Option("--create", help="Make the mailbox if it is not there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a person use a mailbox, or change what the person may do there."""
    body = {"rights": rights} if rights else {"may": may.value}
    parts = {"mailbox": mailbox, "person": person, "create": create, **body}
    ask(ctx, data, lambda api: api.post("accounts", owner, "shares", **parts), as_json=as_json)
    told = f"{person} may {may.value} {mailbox}." if not rights else f"{person} has {rights} on {mailbox}."
    answer({}, lambda: typer.echo(told), as_json=as_json)


@app.command("list")
def list_all(ctx: typer.Context, owner: Owner, data: Data, as_json: AsJson = False) -> None:
    """List who may use which mailboxes of an account."""
    rows = ask(ctx, data, lambda api: api.get("accounts", owner, "shares"), as_json=as_json)
    cells = ((row["mailbox"], row["person"], row["may"] or row["rights"]) for row in rows)
    answer(rows, lambda: table(("mailbox", "person", "may"), cells, none="Nothing is shared."), as_json=as_json)


@app.command("remove")
def remove(
    ctx: typer.Context, owner: Owner, mailbox: Mailbox, person: Person, data: Data, as_json: AsJson = False
) -> None:
    """Take a person's rights on a mailbox away."""
    body = {"mailbox": mailbox, "person": person, "rights": ""}
    ask(ctx, data, lambda api: api.post("accounts", owner, "shares", **body), as_json=as_json)
    answer({}, lambda: typer.echo(f"{person} may no longer use {mailbox}."), as_json=as_json)
