# SPDX-License-Identifier: Apache-2.0
"""posthouse trace, and the words for attempts and outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import AsJson, Data, answer, ask, backend_of, guarded
from posthouse.edges.cli.backend import Stop
from posthouse.edges.cli.tables import ago, moment, plural, size

METHODS = {"spf": "SPF", "dkim": "DKIM", "dmarc": "DMARC", "arc": "ARC", "iprev": "reverse name"}
NAMED = 3  # recipients of one attempt that are named, the others are counted


def trace(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="MESSAGE-ID|ADDRESS|QUEUE-ID", show_default=False)],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Tell what happened to a letter, step by step. A trace id of the log is understood too."""
    stories = ask(ctx, data, lambda api: api.get("trace", what=what), as_json=as_json)

    def check() -> None:
        if not stories:
            raise Stop(
                f"nothing is known of {what}; the history is kept for queue.history (posthouse.toml), and a "
                "Message-ID is written without its angle brackets or in quotes"
            )

    guarded(check, as_json=as_json)
    answer(stories, lambda: _tell(stories, backend_of(ctx).now()), as_json=as_json)


def _tell(stories: list[Any], now: float) -> None:
    for number, story in enumerate(stories):
        if number:
            typer.echo("")
        for line in story_lines(story, now):
            typer.echo(line)


def story_lines(story: Any, now: float) -> Iterator[str]:
    """Who wrote what, then everything that happened in the order of time, then what is still to come."""
    yield f"Letter {story['message_id'] or '(without Message-ID)'}"
    yield f"  queue id {story['id']}, log trace {story['trace']}, {size(story['size'])}"
    steps = [(story["received_at"], [_beginning(story), *verdict_lines(story["verdict"])])]
    steps += [(attempt["at"], list(attempt_lines(attempt, dated=False))) for attempt in story["attempts"]]
    for each in story["recipients"]:
        if each["at"] is not None:
            said = f": {outcome_line(each['outcome'])}" if each["outcome"] and each["next_hop"] != "local" else ""
            place = " (here)" if each["next_hop"] == "local" else ""
            steps.append((each["at"], [f"{each['state']}: {each['address']}{place}{said}"]))
    for at, lines in sorted(steps, key=lambda step: step[0]):
        yield f"  {moment(at)}  {lines[0]}"
        for line in lines[1:]:
            yield f"  {'':19}  {line}"
    for each in story["recipients"]:
        if each["at"] is None:
            yield f"  {'now':19}  {each['state']}: {each['address']}, {plural(each['attempts'], 'attempt')}"
            if each["due_at"] is not None:
                yield f"  {'':19}  next attempt {ago(each['due_at'], now)}"
            if each["expires_at"] is not None:
                yield f"  {'':19}  given up {ago(each['expires_at'], now)}"


def _beginning(story: Any) -> str:
    sender = story["reverse_path"] or "<>"
    match story["source"]:
        case "":
            return f"received from {sender}"
        case "report":
            return "written by this server (a report to a sender)"
        case "import":
            return "imported"
        case source if source == sender:
            return f"submitted by {sender}"
        case source:
            return f"received from {sender}, brought by {source}"


def verdict_lines(verdict: Any) -> Iterator[str]:
    """What was found about a letter from another server, one line for each method, and what was done with it."""
    if verdict is None:
        return
    for told in verdict["statements"]:
        yield f"  {_told_line(told)}"
    if verdict["action"] == "quarantine":
        yield "  put among the junk" + (f": {verdict['local']}" if verdict["local"] else "")
    elif verdict["local"]:
        yield f"  taken all the same: {verdict['local']}"


def _told_line(told: Any) -> str:
    """`DKIM: fail, signed by example.org (the body was changed)`."""
    said = {f"{kind}.{name}": value for kind, name, value in told["properties"]}
    method = METHODS.get(told["method"], told["method"])
    about = ""
    match told["method"]:
        case "spf":
            about = said.get("smtp.mailfrom") or said.get("smtp.helo", "")
            about = about and f" for {about}"
        case "dkim" if told["result"] == "none":
            return f"{method}: none, the letter is not signed"
        case "dkim":
            about = f", signed by {said['header.d']}" if said.get("header.d") else ""
        case "dmarc":
            about = f" for {said['header.from']}" if said.get("header.from") else ""
            if "policy.dmarc" in said:
                about += f", whose owner asks for {said['policy.dmarc']}"
        case "iprev":
            about = f" for {said['policy.iprev']}" if said.get("policy.iprev") else ""
        case _:
            pass
    reason = f" ({told['reason']})" if told["reason"] else ""
    return f"{method}: {told['result']}{about}{reason}"


def attempt_lines(attempt: Any, *, dated: bool = True) -> Iterator[str]:
    """One line for the attempt, one for each different outcome in it."""
    where = attempt["host"] or attempt["next_hop"]
    address = f" [{attempt['address']}]" if attempt["address"] else ""
    tls = f", {attempt['tls']}" if attempt["tls"] else ""
    yield f"{'  ' + moment(attempt['at']) + '  ' if dated else ''}tried {where}{address}{tls}"
    for outcome, recipients in attempt["results"]:
        named = ", ".join(recipients[:NAMED])
        more = f" and {len(recipients) - NAMED} more" if len(recipients) > NAMED else ""
        told = f"{named}{more}: " if recipients else ""
        yield f"{'    ' if dated else '  '}{told}{outcome_line(outcome)}"


def outcome_line(outcome: Any) -> str:
    """`4.4.1 nobody answers`; the remote host's own words where it spoke."""
    reply = outcome["reply"]
    if reply:
        status = f" {reply['status']}" if reply["status"] else ""
        return f"{reply['code']}{status} {reply['text']}"
    return f"{outcome['status']} {outcome['diagnostic']}"
