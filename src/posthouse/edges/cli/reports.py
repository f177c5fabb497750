# SPDX-License-Identifier: Apache-2.0
"""posthouse report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import Api, AsJson, Data, answer, ask, backend_of, group
from posthouse.edges.cli.tables import ago, plural, table

app = group("Reports about mail (DMARC) and TLS: what others tell about your domains, and what they are told.")

SHOWN = 50  # reports of a list for people, unless they ask for more
DAY = 86400

DomainOption = Annotated[
    str | None, typer.Option("--domain", metavar="DOMAIN", help="About this domain alone.", show_default=False)
]


@app.command("list")
def list_all(
    ctx: typer.Context,
    data: Data,
    sent: Annotated[bool, typer.Option("--sent", help="Those that this server has sent.")] = False,
    unread: Annotated[
        bool, typer.Option("--unread", help="Letters that could not be kept as reports, and why.")
    ] = False,
    domain: DomainOption = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = SHOWN,
    as_json: AsJson = False,
) -> None:
    """List reports, the newest first: those that others have sent about your domains, or with --sent your own."""
    if unread:
        found = ask(ctx, data, lambda api: api.get("reports", "unread"), as_json=as_json)
        answer(found, lambda: _tell_unread(found, backend_of(ctx).now()), as_json=as_json)
        return

    async def question(api: Api) -> list[Any]:
        reports: list[Any] = []
        query: dict[str, str | int] = {} if domain is None else {"domain": domain}
        while len(reports) < limit:
            page = await api.get("reports", "sent" if sent else "received", **query)
            reports += page["reports"]
            if page["before"] is None:
                break
            query["before"] = page["before"]
        return reports[:limit]

    reports = ask(ctx, data, question, as_json=as_json)
    answer(reports, lambda: (_tell_sent if sent else _tell_received)(reports, backend_of(ctx).now()), as_json=as_json)


@app.command("show")
def show(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="ID|DOMAIN", show_default=False)],
    data: Data,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=36500, help="Of a domain: how far back.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show one report that has come, or what all of them say about a domain, by source: how much passed and failed."""
    if what.isdigit():
        found = ask(ctx, data, lambda api: api.get("reports", "received", what), as_json=as_json)
        answer(found, lambda: _tell_lines(_report_lines(found, backend_of(ctx).now())), as_json=as_json)
        return
    found = ask(ctx, data, lambda api: api.get("reports", "domains", what, seconds=days * DAY), as_json=as_json)
    answer(found, lambda: _tell_domain(found, days), as_json=as_json)


@app.command("send")
def send(
    ctx: typer.Context,
    data: Data,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, today's counts so far among it; send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send the reports about all days before today at once; the server does it every night by itself."""
    if dry_run:
        drafts = ask(ctx, data, lambda api: api.get("reports", "drafts"), as_json=as_json)
        answer(drafts, lambda: _tell_drafts(drafts), as_json=as_json)
        return
    done = ask(ctx, data, lambda api: api.post("reports", "sent"), as_json=as_json)

    def tell() -> None:
        posted = sum(each["result"] in ("posted", "taken") for each in done["sent"])
        typer.echo(f"{plural(posted, 'report')} sent.")
        if len(done["sent"]) > posted:
            typer.echo(
                f"{plural(len(done['sent']) - posted, 'report')} could not be sent; `report list --sent` has why."
            )
        if done["waiting"]:
            typer.echo(f"{plural(done['waiting'], 'report')} will be tried again; the log has why.")

    answer(done, tell, as_json=as_json)


def _tell_received(reports: list[Any], now: float) -> None:
    heads = (">id", "kind", "domain", "from", "day", ">passed", ">failed", "received")
    rows = (
        (
            each["id"],
            each["kind"],
            each["domain"],
            each["organization"],
            _day(each["begin_at"]),
            each["passed"],
            each["failed"],
            ago(each["at"], now),
        )
        for each in reports
    )
    table(heads, rows, none="No report has come.")


def _tell_sent(reports: list[Any], now: float) -> None:
    heads = ("kind", "domain", "day", ">letters", "to", "outcome", "sent")
    rows = (
        (
            each["kind"],
            each["domain"],
            each["date"],
            each["letters"],
            each["target"],
            f"{each['outcome']}: {each['text']}" if each["text"] else each["outcome"],
            ago(each["at"], now),
        )
        for each in reports
    )
    table(heads, rows, none="No report was sent.")


def _tell_unread(letters: list[Any], now: float) -> None:
    rows = ((each["letter"], ago(each["at"], now), each["reason"]) for each in letters)
    table((">letter", "received", "why it is not kept"), rows, none="Every report that came could be read.")


def _tell_lines(lines: Iterator[str]) -> None:
    for line in lines:
        typer.echo(line)


def _report_lines(found: Any, now: float) -> Iterator[str]:
    report, details = found["report"], found["report"]["details"]
    yield f"Report      {report['id']}, {'DMARC' if report['kind'] == 'dmarc' else 'TLS'}, about {report['domain']}"
    yield f"From        {report['organization']} ({report['sender'] or 'its author is not authenticated'})"
    yield f"Report-ID   {report['report_id']}"
    yield f"Period      {_moment(report['begin_at'])} to {_moment(report['end_at'])}"
    yield f"Received    {ago(report['at'], now)}, letter {report['letter']}"
    yield f"Counts      {report['passed']} passed, {report['failed']} failed"
    for name, value in details.items():
        if name != "policies":
            yield f"{name:11} {'; '.join(value) if isinstance(value, list) else value}"
    for policy in details.get("policies", ()):
        yield f"policy      {policy['type']} {policy['domain']} {'; '.join(policy['text'])}"
    for each in found["sources"]:
        yield ""
        yield f"{each['source'] or '(all)'}: {each['count']} {'passed' if each['is_pass'] else 'failed'}"
        for name, value in each["facts"].items():
            yield f"  {name:16} {_said(value)}"


def _said(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return "; ".join(
        f"{one['domain']} ({one['selector']}) {one['result']}" if isinstance(one, dict) else one for one in value
    )


def _tell_domain(found: Any, days: int) -> None:
    if not found["kinds"]:
        typer.echo(f"No report about {found['domain']} in {plural(days, 'day')}.")
    for number, each in enumerate(found["kinds"]):
        if number:
            typer.echo("")
        what = "letters that passed DMARC" if each["kind"] == "dmarc" else "sessions with good TLS"
        typer.echo(
            f"{found['domain']}, {plural(days, 'day')}, {plural(each['reports'], 'report')}:"
            f" {each['passed']} {what}, {each['failed']} not"
        )
        rows = ((one["source"] or "(all)", one["passed"], one["failed"], one["reports"]) for one in each["sources"])
        table(("source", ">passed", ">failed", ">reports"), rows, none="")


def _tell_drafts(drafts: list[Any]) -> None:
    if not drafts:
        typer.echo("Nothing would be sent.")
    for draft in drafts:
        to = ", ".join(draft["targets"]) or f"nobody: {draft['skipped']}"
        typer.echo(f"{draft['kind']}  {draft['date']}  {draft['domain']}  {draft['letters']} in all  -> {to}")
        for each in draft["refused"]:
            typer.echo(f"    not to {each['uri']}: {each['reason']}")


def _day(seconds: float) -> str:
    return _moment(seconds)[:10]


def _moment(seconds: float) -> str:
    """UTC, as the reports' days are."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OSError, OverflowError):
        return str(seconds)
