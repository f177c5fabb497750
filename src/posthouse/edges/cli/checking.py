# SPDX-License-Identifier: Apache-2.0
"""posthouse check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import Api, AsJson, Data, ask, show_json
from posthouse.edges.cli.tables import plural

MARKS = {"ok": "ok     ", "mended": "MENDED ", "warning": "WARNING", "error": "ERROR  "}
SHOWN = 100  # findings of one level for people; --json has all


def check(
    ctx: typer.Context,
    data: Data,
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="Compare its DNS records too.", show_default=False)
    ] = None,
    store: Annotated[bool, typer.Option("--store", help="Recount every counter and read every letter.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="With --store: mend what can be mended.")] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="BACKUP",
            help="With --repair: take whole letters from this backup or data directory.",
            show_default=False,
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong and how to mend it: settings, ports, disk, TLS, DNS. Exit 1 when something does not work.

    --store reads every octet that is kept, while the server serves, and names each letter that is hurt. Nothing is
    changed without --repair.
    """
    if repair and not store:
        raise typer.BadParameter("--repair goes with --store")
    if source is not None and not repair:
        raise typer.BadParameter("--from goes with --repair")

    async def question(api: Api) -> Any:
        query = ({"domain": domain} if domain else {}) | ({"store": "1"} if store and not repair else {})
        findings = await api.get("check", **query)
        if repair:
            findings += await api.post("check", **({} if source is None else {"source": str(source.absolute())}))
        return findings

    findings = ask(ctx, data, question, as_json=as_json)
    counts = {level: sum(each["level"] == level for each in findings) for level in MARKS}
    errors, warnings, mended = counts["error"], counts["warning"], counts["mended"]
    if as_json:
        show_json({"findings": findings, "errors": errors, "warnings": warnings, "mended": mended})
    else:
        _tell_all(findings, counts)
        more = f", {mended} mended" if mended else ""
        typer.echo(f"\n{plural(errors, 'error')}, {plural(warnings, 'warning')}{more}")
    if errors:
        raise typer.Exit(1)


def _tell_all(findings: Any, counts: dict[str, int]) -> None:
    told = dict.fromkeys(MARKS, 0)
    last = None
    for each in findings:
        level = each["level"]
        told[level] += 1
        if told[level] <= SHOWN:
            _tell(each, is_remedy_new=each["remedy"] != last)
            last = each["remedy"]
    for level, count in counts.items():
        if count > SHOWN:
            typer.echo(f"{MARKS[level]}  and {count - SHOWN} more; --json lists them all")


def _tell(finding: Any, *, is_remedy_new: bool) -> None:
    typer.echo(f"{MARKS[finding['level']]}  {finding['area']:7}  {finding['text']}")
    if finding["remedy"] and is_remedy_new:
        typer.echo(f"{'':18}-> {finding['remedy']}")
