# SPDX-License-Identifier: Apache-2.0
"""posthouse alias."""

from __future__ import annotations

from typing import Annotated

import typer

from posthouse.edges.cli.asking import AsJson, Data, answer, ask, group
from posthouse.edges.cli.tables import table

app = group("Addresses that stand for other addresses.")

Name = Annotated[str, typer.Argument(metavar="ADDRESS", show_default=False)]


@app.command("add")
def add(
    ctx: typer.Context,
    address: Name,
    targets: Annotated[list[str], typer.Argument(metavar="TARGET...", show_default=False)],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Make an alias, or add targets to one. Targets may be here or at other servers."""
    ask(ctx, data, lambda api: api.post("aliases", address=address, targets=targets), as_json=as_json)
    answer({}, lambda: typer.echo(f"{address} stands for {', '.join(targets)}."), as_json=as_json)


@app.command("list")
def list_all(
    ctx: typer.Context,
    data: Data,
    domain: Annotated[str | None, typer.Argument(metavar="[DOMAIN]", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List the aliases."""
    query = {"domain": domain} if domain else {}
    rows = ask(ctx, data, lambda api: api.get("aliases", **query), as_json=as_json)
    cells = ((row["address"], ", ".join(row["targets"])) for row in rows)
    answer(rows, lambda: table(("alias", "stands for"), cells, none="There are no aliases."), as_json=as_json)


@app.command("remove")
def remove(
    ctx: typer.Context,
    address: Name,
    data: Data,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help="None: the whole alias.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove an alias, or some of its targets."""
    ask(ctx, data, lambda api: api.delete("aliases", address=address, targets=targets or []), as_json=as_json)
    gone = f"{address} no longer stands for {', '.join(targets)}." if targets else f"{address} is gone."
    answer({}, lambda: typer.echo(gone), as_json=as_json)
