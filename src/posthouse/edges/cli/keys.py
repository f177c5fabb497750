# SPDX-License-Identifier: Apache-2.0
"""posthouse domain keys: the keys that sign letters (DKIM), and how they take turns."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import Api, AsJson, Data, answer, ask, group
from posthouse.edges.cli.tables import moment, table

app = group("The keys that sign a domain's letters (DKIM).")

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="Or the host's own name.", show_default=False)]

STATES = {
    "published": "waits for DNS",
    "active": "signs",
    "retired": "retired; keep its record",
    "withdrawn": "over; take its record out of DNS",
}


@app.command("list")
def list_all(ctx: typer.Context, domain: Name, data: Data, as_json: AsJson = False) -> None:
    """List the keys of a domain, the oldest first, and what becomes of their records."""
    rows = ask(ctx, data, lambda api: api.get("domains", domain, "keys"), as_json=as_json)
    cells = ((row["selector"], row["algorithm"], _state(row), moment(row["changed_at"])) for row in rows)
    none = f"{domain} has no keys."

    def tell() -> None:
        table(("selector", "algorithm", "state", "since"), cells, none=none)
        waiting = [row for row in rows if row["state"] == "published"]
        if waiting:
            _tell_records(waiting)

    answer(rows, tell, as_json=as_json)


@app.command("rotate")
def rotate(ctx: typer.Context, domain: Name, data: Data, as_json: AsJson = False) -> None:
    """Make the next keys. They sign when DNS has shown their records for two hours; until then nothing changes."""

    async def question(api: Api) -> Any:
        return await api.post("domains", domain, "keys", action="rotate")

    made = ask(ctx, data, question, as_json=as_json)
    answer(made, lambda: _tell_records(made), as_json=as_json)


@app.command("activate")
def activate(
    ctx: typer.Context,
    domain: Name,
    data: Data,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Also where DNS does not show the record: nobody can verify yet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let the waiting keys sign now, and those before them retire."""

    async def question(api: Api) -> Any:
        return await api.post("domains", domain, "keys", action="activate", unseen=unseen)

    rows = ask(ctx, data, question, as_json=as_json)
    told = ", ".join(row["selector"] for row in rows)
    answer(rows, lambda: typer.echo(f"Letters of {domain} are signed with {told} from now on."), as_json=as_json)


@app.command("remove")
def remove(
    ctx: typer.Context,
    domain: Name,
    selector: Annotated[str, typer.Argument(metavar="SELECTOR", show_default=False)],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Forget a key that does not sign: one that waits, or one that has signed."""
    ask(ctx, data, lambda api: api.delete("domains", domain, "keys", selector), as_json=as_json)
    answer({}, lambda: typer.echo(f"{selector} is gone; take its record out of DNS."), as_json=as_json)


def _state(row: Any) -> str:
    if row["state"] == "published" and row["seen_at"] is not None:
        return f"its record is in DNS since {moment(row['seen_at'])}; signs soon"
    return STATES[row["state"]]


def _tell_records(rows: Any) -> None:
    typer.echo("Add these records to DNS; the keys sign when they have been there for two hours:")
    for row in rows:
        typer.echo(row["zone_line"])
