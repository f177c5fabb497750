# SPDX-License-Identifier: Apache-2.0
"""posthouse certificate."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import AsJson, Data, answer, ask, group
from posthouse.edges.cli.tables import moment, table

app = group("Certificates of an authority (ACME), as [acme] in posthouse.toml wants them.")


class Why(StrEnum):
    """As services.acme.words.Reason."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"


Name = Annotated[str, typer.Argument(metavar="[NAME]", help="As in [acme.certificates]; the first one is main.")]


@app.command("list")
def list_all(ctx: typer.Context, data: Data, as_json: AsJson = False) -> None:
    """List the certificates, and when each will be renewed."""
    rows = ask(ctx, data, lambda api: api.get("certificates"), as_json=as_json)

    def tell() -> None:
        cells = [
            (row["name"], row["state"], ", ".join(row["names"]), moment(row["expires_at"]), moment(row["renew_at"]))
            for row in rows
        ]
        heads = ("name", "state", "for", "ends", "renewed about")
        table(heads, cells, none="No certificate is wanted of an authority: see [acme] in posthouse.toml.")
        for each in rows:
            _more(each)

    answer(rows, tell, as_json=as_json)


@app.command("renew")
def renew(
    ctx: typer.Context,
    data: Data,
    name: Name = "main",
    new_key: Annotated[
        bool,
        typer.Option("--new-key", help="With another key at once, though TLSA records may still name the old one."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have a new certificate now. The old one is served until the new one is there."""
    made = ask(ctx, data, lambda api: api.post("certificates", name, action="renew", new_key=new_key), as_json=as_json)[
        "certificate"
    ]

    def tell() -> None:
        typer.echo(f"Certificate {name} for {', '.join(made['names'])} is good until {moment(made['expires_at'])}.")

    answer(made, tell, as_json=as_json)


@app.command("rollover")
def rollover(ctx: typer.Context, data: Data, name: Name = "main", as_json: AsJson = False) -> None:
    """Change the key: the next one is announced in DNS, and taken when every resolver must know it.

    Where no TLSA record names the present key there is nothing to wait for.
    """
    made = ask(ctx, data, lambda api: api.post("certificates", name, action="rollover"), as_json=as_json)

    def tell() -> None:
        status, sight = made["certificate"], made["sight"]
        typer.echo(f"The next key of certificate {name} has the digest {status['next_digest']}.")
        if sight is not None and sight["is_used"] and not sight["is_shown"]:
            typer.echo(f"It waits for its TLSA record: {sight['text']}")
            typer.echo("`posthouse dns DOMAIN` shows the record to add; the server looks every quarter of an hour.")
        else:
            typer.echo(f"The server takes it at {moment(status['next_from'])}.")

    answer(made, tell, as_json=as_json)


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="As in [acme.certificates]; the first one is main.", show_default=False),
    ],
    data: Data,
    reason: Annotated[
        Why, typer.Option(help="What others are told; key-compromise: somebody else may have the key.")
    ] = Why.UNSPECIFIED,
    as_json: AsJson = False,
) -> None:
    """Have the authority declare the present certificate invalid, and have another one at once.

    After key-compromise that has another key, though TLSA records may still name the old one; after
    cessation-of-operation there is none.
    """
    made = ask(
        ctx, data, lambda api: api.post("certificates", name, action="revoke", reason=reason.value), as_json=as_json
    )["certificate"]

    def tell() -> None:
        typer.echo(f"Certificate {name} is revoked.")
        if made["state"] != "revoked":
            typer.echo(f"Another one for {', '.join(made['names'])} is good until {moment(made['expires_at'])}.")
        elif made["error"]:
            typer.echo(f"There is no other one yet: {made['error']}; tried again at {moment(made['retry_at'])}")
        elif reason is not Why.CESSATION_OF_OPERATION:
            typer.echo("The server gets another one when it is started.")

    answer(made, tell, as_json=as_json)


def _more(each: Any) -> None:
    if each["error"]:
        typer.echo(f"{each['name']}: {each['error']}; tried again at {moment(each['retry_at'])}")
    if each["explanation"]:
        typer.echo(f"{each['name']}: the authority explains its renewal time at {each['explanation']}")
    if each["next_digest"]:
        when = f"from {moment(each['next_from'])}" if each["next_from"] else "when DNS has shown it"
        typer.echo(f"{each['name']}: the next key {each['next_digest']} is served {when}")
