# SPDX-License-Identifier: Apache-2.0
"""posthouse backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import AsJson, Data, answer, backend_of, guarded
from posthouse.edges.cli.backend import BackedUp, Restoring
from posthouse.edges.cli.tables import moment, plural, size, table

Target = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder of backups, best on another disk.", show_default=False)
]
Generation = Annotated[
    str | None,
    typer.Option("--generation", metavar="NAME", help="Not the newest, but this one (see --list).", show_default=False),
]
MaybeData = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="POSTHOUSE_DATA", metavar="DIR", help="The data directory.", show_default=False, readable=False
    ),
]


def backup(
    ctx: typer.Context,
    target: Target,
    data: MaybeData = None,
    keep: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the newest N backups in DIR, not as many as store.backups_kept."),
    ] = None,
    lists: Annotated[bool, typer.Option("--list", help="Say which backups are in DIR.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read the backups in DIR: are they whole?")] = False,
    generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Back the data directory up into DIR, while it is served or not. Only what is new since the last time is copied.

    DIR then holds everything that a new machine needs, also the secret keys: keep it as private as the mail itself.
    Exit 1 when no backup was made, or when something is wrong in the house or (--verify) in a backup.
    """
    if lists and verify:
        raise typer.BadParameter("--list or --verify, not both")
    if lists:
        _list(ctx, target, as_json=as_json)
    elif verify:
        _verify(ctx, target, generation, as_json=as_json)
    elif generation is not None:
        raise typer.BadParameter("--generation goes with --verify")
    elif data is None:
        raise typer.BadParameter("say which data directory: --data DIR, or POSTHOUSE_DATA")
    else:
        _back_up(ctx, data, target, keep, as_json=as_json)


def _back_up(ctx: typer.Context, data: Path, target: Path, keep: int | None, *, as_json: bool) -> None:
    made = guarded(lambda: backend_of(ctx).back_up(data, target, keep), as_json=as_json)

    def tell() -> None:
        _tell_backup(made, target)

    document = {name: getattr(made, name) for name in BackedUp.__slots__}
    answer(document | {"target": str(target.absolute())}, tell, as_json=as_json)
    if made.findings:
        for finding in made.findings:
            typer.echo(f"posthouse: in the house: {finding}", err=True)
        typer.echo("posthouse: the backup is made and nothing was forgotten; see `posthouse check --store`", err=True)
        raise typer.Exit(1)


def _tell_backup(made: BackedUp, target: Path) -> None:
    holds = f"{plural(made.letters, 'letter')} of {plural(made.accounts, 'account')}, {size(made.octets)}"
    typer.echo(f"Backup {made.generation} in {target}: {holds}.")
    new = f"{size(made.copied)} copied in {made.seconds:.1f} s"
    gone = f", {plural(len(made.forgotten), 'older one')} forgotten" if made.forgotten else ""
    typer.echo(f"{new}; {plural(made.kept, 'backup')} kept{gone}.")


def _list(ctx: typer.Context, target: Path, *, as_json: bool) -> None:
    found, damaged = guarded(lambda: backend_of(ctx).list_backups(target), as_json=as_json)
    fields = ("generation", "hostname", "version", "taken_at", "ended_at", "accounts", "letters", "queued", "octets")
    more = ("copied", "findings")

    def tell() -> None:
        rows = [
            (
                each.generation,
                moment(each.taken_at),
                each.accounts,
                each.letters,
                size(each.octets),
                size(each.copied),
                plural(len(each.findings), "fault") if each.findings else "",
            )
            for each in found
        ]
        heads = ("generation", "of", ">accounts", ">letters", ">holds", ">copied", "in the house")
        table(heads, rows, none="There are no backups.")

    answer([{name: getattr(each, name) for name in fields + more} for each in found], tell, as_json=as_json)
    for problem in damaged:
        typer.echo(f"posthouse: {problem}", err=True)


def _verify(ctx: typer.Context, target: Path, generation: str | None, *, as_json: bool) -> None:
    found = guarded(lambda: backend_of(ctx).verify_backups(target, generation), as_json=as_json)

    def tell() -> None:
        for each in found:
            state = "damaged" if each.problems else "whole"
            hurt = f", of a house with {plural(len(each.findings), 'fault')}" if each.findings else ""
            typer.echo(f"{each.generation}  {state}{hurt}  ({size(each.octets)} read)")

    document = [
        {
            "generation": each.generation,
            "is_whole": not each.problems,
            "problems": each.problems,
            "findings": each.findings,
        }
        for each in found
    ]
    answer(document, tell, as_json=as_json)
    for each in found:
        for finding in each.findings:
            typer.echo(f"posthouse: {each.generation}: in the house, when it was made: {finding}", err=True)
    wrong = [f"{each.generation}: {problem}" for each in found for problem in each.problems]
    for problem in wrong:
        typer.echo(f"posthouse: {problem}", err=True)
    if wrong:
        typer.echo(
            "posthouse: remove a damaged file in packs/ or files/, and the next backup copies it anew from the house;"
            " the whole ones among the others can be restored as they are",
            err=True,
        )
        raise typer.Exit(1)


def restore(
    ctx: typer.Context,
    target: Target,
    data: Data,
    generation: Generation = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put aside what is in the data directory, within it.")
    ] = False,
    hold_queue: Annotated[
        bool, typer.Option("--hold-queue", help="Send nothing of the queue before `posthouse queue release`.")
    ] = False,
    despite_damage: Annotated[
        bool, typer.Option("--despite-damage", help="Take what there is where the backup itself is damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data directory of a backup in DIR, ready to be served. Everything is checked on its way.

    What happened after the backup is not there. Letters that waited in the queue then are tried again, so some of
    them may arrive twice; with --hold-queue they wait until somebody has looked.
    """
    how = Restoring(generation, replace, hold_queue, despite_damage)
    made = guarded(lambda: backend_of(ctx).restore(target, data, how), as_json=as_json)

    def tell() -> None:
        _tell_restore(made, data)

    answer(made, tell, as_json=as_json)


def _tell_restore(made: Any, data: Path) -> None:
    typer.echo(
        f"{data} is {made['hostname']} as of {moment(made['taken_at'])}:"
        f" {plural(made['letters'], 'letter')} of {plural(made['accounts'], 'account')}."
    )
    if made["put_aside"]:
        typer.echo(f"What was there lies in {made['put_aside']}; remove it when nothing is missed.")
    if made["waiting"]:
        held = "are held until `posthouse queue release`" if made["is_queue_held"] else "are tried again, maybe twice"
        typer.echo(f"{plural(made['waiting'], 'recipient')} in the queue {held}.")
    for name, copy in made["missing"].items():
        where = f"{copy} is its copy" if copy else "nor does the backup"
        typer.echo(f"posthouse.toml names {name}, which this machine does not have: {where}.")
    for each in made["damage"]:
        typer.echo(f"posthouse: {each}", err=True)
    if made["damage"]:
        typer.echo(f"Which letters are hurt: posthouse check --store --data {data}")
    typer.echo(f"Next: posthouse serve --data {data}")
