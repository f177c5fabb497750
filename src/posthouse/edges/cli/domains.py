# SPDX-License-Identifier: Apache-2.0
"""posthouse domain, posthouse dns."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import Api, AsJson, Data, answer, ask, group
from posthouse.edges.cli.tables import moment, table

app = group("Domains that mail is received for.")

Name = Annotated[str, typer.Argument(metavar="DOMAIN", show_default=False)]


@app.command("add")
def add(
    ctx: typer.Context,
    domain: Name,
    data: Data,
    alias_of: Annotated[
        str | None, typer.Option(metavar="DOMAIN", help="Another name of that domain: the same addresses.")
    ] = None,
    catch_all: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Who gets letters for unknown names of the domain.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Receive mail for a domain, and sign what it sends (DKIM keys are made)."""

    async def question(api: Api) -> Any:
        return await api.post("domains", name=domain, alias_of=alias_of, catch_all=catch_all)

    made = ask(ctx, data, question, as_json=as_json)
    answer(
        made,
        lambda: typer.echo(
            f"{domain} is served here now. `posthouse dns {domain}` shows the DNS records that it needs."
        ),
        as_json=as_json,
    )


@app.command("list")
def list_all(ctx: typer.Context, data: Data, as_json: AsJson = False) -> None:
    """List the domains."""
    rows = ask(ctx, data, lambda api: api.get("domains"), as_json=as_json)
    cells = (
        (row["name"], row["alias_of"], row["catch_all"], row["accounts"], row["aliases"], moment(row["created_at"]))
        for row in rows
    )
    heads = ("domain", "alias of", "catch-all", ">accounts", ">aliases", "since")
    answer(rows, lambda: table(heads, cells, none="There are no domains."), as_json=as_json)


@app.command("remove")
def remove(ctx: typer.Context, domain: Name, data: Data, as_json: AsJson = False) -> None:
    """Stop serving a domain. Its accounts and aliases must be removed before."""
    ask(ctx, data, lambda api: api.delete("domains", domain), as_json=as_json)
    answer({}, lambda: typer.echo(f"{domain} is no longer served here."), as_json=as_json)


@app.command("catch-all")
def catch_all(
    ctx: typer.Context,
    domain: Name,
    data: Data,
    target: Annotated[
        str | None, typer.Argument(metavar="[ADDRESS]", help="None: unknown names are refused.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say who gets letters for unknown names of a domain."""
    ask(ctx, data, lambda api: api.put("domains", domain, "catch-all", target=target), as_json=as_json)
    told = f"go to {target}" if target else "are refused"
    answer({}, lambda: typer.echo(f"Letters for unknown names of {domain} {told}."), as_json=as_json)


def dns(ctx: typer.Context, domain: Name, data: Data, as_json: AsJson = False) -> None:
    """Print every DNS record that a domain needs, as lines for its zone file."""
    found = ask(ctx, data, lambda api: api.get("domains", domain, "dns"), as_json=as_json)
    answer(found, lambda: typer.echo(found["zone"], nl=False), as_json=as_json)
