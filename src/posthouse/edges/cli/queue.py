# SPDX-License-Identifier: Apache-2.0
"""posthouse queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import Api, AsJson, Data, answer, ask, backend_of, group, guarded
from posthouse.edges.cli.backend import Stop
from posthouse.edges.cli.stories import attempt_lines, outcome_line
from posthouse.edges.cli.tables import ago, plural, size, table

app = group("Letters that wait for another server, for a time or for you.")

SHOWN = 50  # letters of a list for people, unless they ask for more

What = Annotated[
    str | None,
    typer.Argument(
        metavar="ID|DOMAIN|ADDRESS",
        help="A letter, all to a destination, all from or to an address.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="The whole queue.")]


@app.command("list")
def list_all(
    ctx: typer.Context,
    data: Data,
    what: What = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="At most so many letters; 0: all.", show_default="50")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the letters in the queue, oldest first. With --json all of them, unless --limit says how many."""
    wanted = limit if limit is not None else 0 if as_json else SHOWN

    async def question(api: Api) -> tuple[list[Any], Any]:
        status = await api.get("status")
        letters: list[Any] = []
        after: Any = 0
        while after is not None and (not wanted or len(letters) < wanted):
            page = await api.get("queue", selection=what or "", after=after)
            letters += page["letters"]
            after = page["after"]
        return (letters[:wanted] if wanted else letters), status["queue"]

    letters, totals = ask(ctx, data, question, as_json=as_json)
    answer(letters, lambda: _tell_list(letters, totals, backend_of(ctx).now()), as_json=as_json)


@app.command("show")
def show(
    ctx: typer.Context,
    queue_id: Annotated[int, typer.Argument(metavar="ID", show_default=False)],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Show a letter in the queue: its recipients, when each is tried next, what happened so far."""
    found = ask(ctx, data, lambda api: api.get("queue", str(queue_id)), as_json=as_json)
    answer(found, lambda: _tell_letter(found, backend_of(ctx).now()), as_json=as_json)


@app.command("retry")
def retry(ctx: typer.Context, data: Data, what: What = None, all_: All = False, as_json: AsJson = False) -> None:
    """Try again at once, whatever the schedule says."""
    _act(ctx, data, "retry", "will be tried at once", _selection(what, all_), as_json=as_json)


@app.command("hold")
def hold(ctx: typer.Context, data: Data, what: What = None, all_: All = False, as_json: AsJson = False) -> None:
    """Try nothing more until it is released."""
    _act(ctx, data, "hold", "held", _selection(what, all_), as_json=as_json)


@app.command("release")
def release(ctx: typer.Context, data: Data, what: What = None, all_: All = False, as_json: AsJson = False) -> None:
    """Let held letters go on."""
    _act(ctx, data, "release", "released", _selection(what, all_), as_json=as_json)


@app.command("drop")
def drop(
    ctx: typer.Context,
    data: Data,
    what: What = None,
    all_: All = False,
    no_dsn: Annotated[bool, typer.Option("--no-dsn", help="Do not tell the senders.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take letters out of the queue for good; their senders are told that they were not delivered."""
    told = "dropped, the senders are not told" if no_dsn else "dropped, the senders are told"
    _act(ctx, data, "drop", told, _selection(what, all_), as_json=as_json, tell_sender=not no_dsn)


def _selection(what: str | None, all_: bool) -> str:
    if bool(what) == all_:
        raise typer.BadParameter("say which: ID, DOMAIN or ADDRESS, or --all for the whole queue")
    return what or ""


def _act(ctx: typer.Context, data: Any, action: str, told: str, selection: str, *, as_json: bool, **more: bool) -> None:
    body: dict[str, Any] = {"action": action, "selection": selection, **more}
    done = ask(ctx, data, lambda api: api.post("queue", **body), as_json=as_json)

    def check() -> None:
        if not done["changed"] and selection:
            busy = "; what is being sent now cannot be dropped, try again in a minute" if done["busy"] else ""
            raise Stop(f"nothing in the queue matches {selection}, or nothing of it can be changed like that{busy}")

    guarded(check, as_json=as_json)

    def tell() -> None:
        typer.echo(f"{plural(done['changed'], 'recipient')} {told}.")
        if done["busy"]:
            typer.echo(f"{plural(done['busy'], 'recipient')} left alone: being sent right now.")

    answer(done, tell, as_json=as_json)


def _tell_list(letters: list[Any], totals: Any, now: float) -> None:
    heads = (">id", "received", ">size", "from", ">open", "state", "next attempt")
    rows = (
        (
            letter["id"],
            ago(letter["received_at"], now),
            size(letter["size"]),
            letter["reverse_path"] or "<>",
            letter["open_recipients"],
            " ".join(f"{state}:{count}" for state, count in letter["states"].items() if count),
            ago(letter["next_attempt_at"], now),
        )
        for letter in letters
    )
    table(heads, rows, none="No letter waits.")
    if totals["letters"] > len(letters):
        typer.echo(f"({plural(totals['letters'], 'letter')} in the queue; `queue list --limit 0` lists all)")


def _tell_letter(found: Any, now: float) -> None:
    for line in _letter_lines(found, now):
        typer.echo(line)


def _letter_lines(found: Any, now: float) -> Iterator[str]:
    entry = found["entry"]
    yield f"Letter      {entry['id']}"
    yield f"Message-ID  {entry['message_id'] or '(none)'}"
    yield f"From        {entry['reverse_path'] or '<> (a report)'}"
    yield f"Size        {size(entry['size'])}"
    yield f"Received    {ago(entry['received_at'], now)}"
    yield f"Log trace   {entry['trace']}"
    for each in found["recipients"]:
        yield ""
        yield f"To          {each['address']}, {each['state']}, {plural(each['attempts'], 'attempt')}"
        if each["state"] == "due":
            down = next((d for d in found["destinations"] if d["next_hop"] == each["next_hop"] and d["failures"]), None)
            due = max(each["due_at"], down["down_until"] if down else 0.0)
            yield f"  next      {ago(due, now)}" + (f" ({each['next_hop']} does not answer)" if down else "")
        yield f"  given up  {ago(each['expires_at'], now)}"
        if each["outcome"]:
            yield f"  last      {outcome_line(each['outcome'])}"
    if found["attempts"]:
        yield ""
        yield "Attempts"
        for attempt in found["attempts"]:
            yield from attempt_lines(attempt)
