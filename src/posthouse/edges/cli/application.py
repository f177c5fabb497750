# SPDX-License-Identifier: Apache-2.0
"""The whole command line in one place: which words there are and where they are carried out."""

from __future__ import annotations

from typing import Annotated

import typer

from posthouse import __version__
from posthouse.edges.cli import (
    accounts,
    aliases,
    backup,
    certificates,
    checking,
    domains,
    keys,
    process,
    queue,
    rebuilding,
    reports,
    shares,
    stories,
    transfer,
)
from posthouse.edges.cli.asking import group

app = group(
    """posthouse: a complete mail server.

    Every command works on a data directory (--data DIR or POSTHOUSE_DATA). While a server runs there the command asks
    it and takes effect at once; otherwise it does the same work itself. With --json the answer is one JSON document.
    Exit codes: 0 done, 1 refused (the reason is on standard error), 2 usage.
    """
)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"posthouse {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """See the help of the whole."""


app.command("up")(process.up)
app.command("init")(process.init)
app.command("serve")(process.serve)
app.command("demo")(process.demo)
app.add_typer(domains.app, name="domain")
domains.app.add_typer(keys.app, name="keys")
app.add_typer(aliases.app, name="alias")
app.add_typer(accounts.app, name="account")
app.add_typer(shares.app, name="share")
app.add_typer(queue.app, name="queue")
app.add_typer(reports.app, name="report")
app.command("trace")(stories.trace)
app.command("check")(checking.check)
app.command("dns")(domains.dns)
app.add_typer(certificates.app, name="certificate")
app.add_typer(transfer.imports, name="import")
app.add_typer(transfer.exports, name="export")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("rebuild")(rebuilding.rebuild)
app.command("sim")(process.sim)
