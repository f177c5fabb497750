# SPDX-License-Identifier: Apache-2.0
"""posthouse check."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import AsJson, Data, ask, show_json
from posthouse.edges.cli.tables import plural

MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def check(
    ctx: typer.Context,
    data: Data,
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="Compare its DNS records too.", show_default=False)
    ] = None,
    store: Annotated[bool, typer.Option("--store", help="Recount every counter and read every pack.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong and how to mend it: settings, ports, disk, TLS, DNS. Exit 1 when something does not work."""
    query = ({"domain": domain} if domain else {}) | ({"store": "1"} if store else {})
    findings = ask(ctx, data, lambda api: api.get("check", **query), as_json=as_json)
    errors = sum(each["level"] == "error" for each in findings)
    warnings = sum(each["level"] == "warning" for each in findings)
    if as_json:
        show_json({"findings": findings, "errors": errors, "warnings": warnings})
    else:
        for each in findings:
            _tell(each)
        typer.echo(f"\n{plural(errors, 'error')}, {plural(warnings, 'warning')}")
    if errors:
        raise typer.Exit(1)


def _tell(finding: Any) -> None:
    typer.echo(f"{MARKS[finding['level']]}  {finding['area']:7}  {finding['text']}")
    if finding["remedy"]:
        typer.echo(f"{'':18}-> {finding['remedy']}")
