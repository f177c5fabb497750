# SPDX-License-Identifier: Apache-2.0
"""posthouse domain, posthouse dns."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import Api, AsJson, Data, answer, ask, group
from posthouse.edges.cli.tables import moment, table

app = group("Domains that mail is received for.")

SHOWN = 60  # characters of a record for people; --json has all

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


def dns(
    ctx: typer.Context,
    domain: Name,
    data: Data,
    update: Annotated[bool, typer.Option("--update", help="Put them into the zone ([dns_update], RFC 2136).")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --update: only say what would be done.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --update: remove what others put there and contradicts it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print every DNS record that a domain needs, as lines for its zone file, or put them there.

    --update adds what is missing and removes what it put there earlier and is not needed any more. Nothing else is
    touched; records of others that contradict ours are told and left as they are.
    """
    if (dry_run or replace) and not update:
        raise typer.BadParameter("--dry-run and --replace go with --update")
    if update:
        _update(ctx, data, domain, {"dry_run": dry_run, "replace": replace}, as_json=as_json)
        return
    found = ask(ctx, data, lambda api: api.get("domains", domain, "dns"), as_json=as_json)
    answer(found, lambda: typer.echo(found["zone"], nl=False), as_json=as_json)


def _update(ctx: typer.Context, data: Data, domain: str, how: dict[str, bool], *, as_json: bool) -> None:
    steps = ask(ctx, data, lambda api: api.post("domains", domain, "dns", **how), as_json=as_json)

    def tell() -> None:
        for each in steps:
            said = each["value"] if len(each["value"]) <= SHOWN else each["value"][:SHOWN] + "…"
            typer.echo(f"{each['action']:9}  {each['name']}. {each['kind']} {said}")
            if each["note"]:
                typer.echo(f"{'':11}-> {each['note']}")
        if how["dry_run"]:
            typer.echo("Nothing was changed.")

    answer({"steps": steps, "dry_run": how["dry_run"]}, tell, as_json=as_json)
    if any(each["action"] == "failed" for each in steps):
        raise typer.Exit(1)
