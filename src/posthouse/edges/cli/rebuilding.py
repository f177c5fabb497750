# SPDX-License-Identifier: Apache-2.0
"""posthouse rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import AsJson, Data, answer, backend_of, guarded
from posthouse.edges.cli.backend import Stop
from posthouse.edges.cli.tables import moment, plural

SAID = 20  # lines of one kind; --json has all


def rebuild(
    ctx: typer.Context,
    data: Data,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the database anew when it is lost or broken beyond repair. The server must be stopped.

    It takes the newest sound snapshot in DIR/snapshots and brings back every letter in the packs that is newer. The
    old database is put aside, never deleted. What is then unknown is said.
    """
    backend = backend_of(ctx)

    def confirm(plan: Mapping[str, Any]) -> bool:
        if yes:
            return True
        if as_json:
            raise Stop("say --yes: with --json nobody is asked")
        for line in plan_lines(plan):
            typer.echo(line)
        return typer.confirm("Go on?", default=False)

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    done = guarded(lambda: backend.rebuild(data, confirm, tell), as_json=as_json)
    document = {**done, "unknown": unknown(done)}
    answer(document, lambda: typer.echo("\n".join(report_lines(done))), as_json=as_json)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    old = plan["old"]
    lines = [f"The database now: {old or 'sound. A rebuild would only forget things; `posthouse check --store` looks'}"]
    if plan["snapshot"]:
        lines.append(f"It is made anew from the snapshot {plan['snapshot']} and {plural(plan['packs'], 'pack')}.")
    else:
        lines.append(f"There is no sound snapshot: it is made from {plural(plan['packs'], 'pack')} alone.")
        lines.append("Passwords, aliases, folder names, flags and settings in the database are then lost.")
    if not plan["has_secrets"]:
        lines.append("secrets.key is missing: passwords kept for SCRAM and DKIM keys cannot be read without it.")
    return lines


def report_lines(done: Mapping[str, Any]) -> list[str]:
    lines = []
    if done["snapshot"]:
        lines.append(f"The database is made anew, from the snapshot of {moment(done['taken_at'])} and the packs.")
    else:
        lines.append("The database is made anew, from the packs alone.")
    lines.append(
        f"Brought back: {plural(done['letters'], 'letter')} in mailboxes, {plural(done['queued'], 'letter')} in the"
        f" queue; {plural(done['accounts'], 'account')} in all."
    )
    lines += _listed("Made anew", done["made"])
    lines += _listed("New DKIM keys (publish them: `posthouse dns DOMAIN`)", done["new_keys"])
    lines += _listed("Snapshots that are not sound", done["refused"])
    lines += _listed("Damaged in the packs", done["unreadable"])
    lines += ["", "What nobody knows any more:"]
    lines += [f"  - {text}" for text in unknown(done)]
    lines += ["", "Next:", "  look       posthouse check --store"]
    if done["held"]:
        lines.append("  queue      posthouse queue list; then queue release or queue drop")
    if done["put_aside"]:
        lines.append(f"  old files  {done['put_aside']}; remove them when all is well")
    return lines


def unknown(done: Mapping[str, Any]) -> list[str]:
    """In plain words, for people and scripts."""
    since = f"since {moment(done['taken_at'])}" if done["snapshot"] else "ever"
    told_twice = (
        "Whether the last letters before the end were acknowledged: a sender that got no answer sends again, so one"
        " may be there twice."
    )
    moved = (
        f"What was read, flagged, moved or deleted {since}: letters deleted since are back, and letters lie where the"
        " snapshot has them, or where they were delivered."
    )
    said = [
        moved,
        "Copies that mail programs made into other folders, and folders that were made or renamed: the same.",
        told_twice,
    ]
    if done["snapshot"]:
        said.append(f"Accounts, passwords, aliases, quotas and keys that were changed {since}: they are as they were.")
    else:
        said.append(
            "Passwords, aliases, catch-alls, quotas, who is an administrator, display names, domains without letters:"
            " set them again."
        )
    if done["held"]:
        said.append(
            f"Which letters in the queue went out {since}: {plural(done['held'], 'recipient')} on hold, for you to"
            " release (some may get their letter twice) or to drop."
        )
    if done["damaged"]:
        said.append(f"What {plural(done['damaged'], 'letter')} said: damaged in the packs. A backup may have them.")
    said.append("Mail programs fetch their folders anew (new UIDVALIDITY); POP3 programs know their letters again.")
    return said


def _listed(title: str, texts: list[str]) -> list[str]:
    if not texts:
        return []
    more = [f"  and {len(texts) - SAID} more (--json lists them)"] if len(texts) > SAID else []
    return [f"{title}:", *(f"  {text}" for text in texts[:SAID]), *more]
