# SPDX-License-Identifier: Apache-2.0
"""posthouse init, up, serve, demo, sim."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import (
    AsJson,
    Data,
    PasswordStdin,
    answer,
    backend_of,
    guarded,
    read_password,
    show_json,
)
from posthouse.edges.cli.backend import Plan, Serving

STANDARD = {
    "smtp": ["*:25"],
    "submission": ["*:587"],
    "submissions": ["*:465"],
    "pop3": ["*:110"],
    "pop3s": ["*:995"],
    "imap": ["*:143"],
    "imaps": ["*:993"],
    "http": ["*:80"],
    "https": ["*:443"],
    "metrics": ["127.0.0.1:9325"],
}
# For a try on one's own machine: loopback only, ports that need no root, all of them standard plus a round number.
TRIAL = {
    "smtp": ["127.0.0.1:2525"],
    "submission": ["127.0.0.1:2587"],
    "submissions": ["127.0.0.1:2465"],
    "pop3": ["127.0.0.1:2110"],
    "pop3s": ["127.0.0.1:2995"],
    "imap": ["127.0.0.1:2143"],
    "imaps": ["127.0.0.1:2993"],
    "http": ["127.0.0.1:2080"],
    "https": ["127.0.0.1:2443"],
    "metrics": ["127.0.0.1:2325"],
}
TRIAL_FOLDER = Path("posthouse-data")
TRIAL_HOST = "mail.posthouse.test"
TRIAL_DOMAIN = "posthouse.test"
TRIAL_ADMIN = "admin@posthouse.test"


def init(
    ctx: typer.Context,
    data: Data,
    hostname: Annotated[
        str, typer.Option(metavar="NAME", help="The server's own name: what MX records say.", show_default=False)
    ],
    domain: Annotated[str, typer.Option(metavar="DOMAIN", help="The first mail domain.", show_default=False)],
    admin: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The first account; gets postmaster's letters.", show_default=False)
    ],
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Make a data directory: settings, store, domain with DKIM keys, first account.

    Without --password-stdin the account's password is made and printed once.
    """
    backend = backend_of(ctx)
    password, is_made = read_password(backend, from_stdin=password_stdin, asks=False)
    plan = Plan(hostname, domain, admin, password, STANDARD)
    guarded(lambda: backend.create(data, plan), as_json=as_json)
    made: dict[str, Any] = {"data": str(data.absolute()), "hostname": hostname, "domain": domain, "admin": admin}
    if is_made:
        made["password"] = password

    def tell() -> None:
        typer.echo(f"{data} is ready: {hostname} serves {domain}.")
        if is_made:
            typer.echo(f"Password of {admin}, shown this once: {password}")
        typer.echo("Next:")
        typer.echo(f"  settings        {data / 'posthouse.toml'} (tls.certificates above all)")
        typer.echo(f"  DNS records     posthouse dns {domain} --data {data}")
        typer.echo(f"  serve           posthouse serve --data {data}")
        typer.echo(f"  what is wrong   posthouse check {domain} --data {data}")

    answer(made, tell, as_json=as_json)


def serve(ctx: typer.Context, data: Data, as_json: AsJson = False) -> None:
    """Serve in the foreground. SIGTERM drains and stops, SIGHUP reads settings and certificates again.

    With --json the bound addresses are told on standard output once everything listens; the log goes to standard
    error.
    """
    _serve(ctx, data, {}, as_json=as_json)


def up(
    ctx: typer.Context,
    data: Annotated[
        Path, typer.Option("--data", envvar="POSTHOUSE_DATA", metavar="DIR", help="The data directory.")
    ] = TRIAL_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Try it: make a data directory on loopback and high ports if there is none, then serve in the foreground."""
    backend = backend_of(ctx)
    password = ""
    if not backend.has_house(data):
        password = backend.new_password()
        plan = Plan(TRIAL_HOST, TRIAL_DOMAIN, TRIAL_ADMIN, password, TRIAL)
        guarded(lambda: backend.create(data, plan), as_json=as_json)
    settings = guarded(lambda: backend.settings(data), as_json=as_json)
    listens = {name: getattr(settings.listen, name) for name in TRIAL}
    user = TRIAL_ADMIN if settings.hostname == TRIAL_HOST else ""
    if not as_json:
        for line in welcome(data, listens, user, password):
            typer.echo(line)
    _serve(ctx, data, {"user": user} | ({"password": password} if password else {}), as_json=as_json)


def _serve(ctx: typer.Context, data: Path, more: Mapping[str, str], *, as_json: bool) -> None:
    def ready(serving: Serving) -> None:
        if as_json:
            show_json({"hostname": serving.hostname, "pid": os.getpid(), "listens": dict(serving.listens), **more})

    guarded(lambda: backend_of(ctx).serve(data, ready), as_json=as_json)


def welcome(data: Path, listens: Mapping[str, list[str]], user: str, password: str) -> Iterator[str]:
    """What a person needs for a mail program and for a first letter. `user` "": nobody in particular."""
    ports = {name: where[0].rpartition(":")[2] for name, where in listens.items() if where}
    hosts = {name: where[0].rpartition(":")[0] for name, where in listens.items() if where}
    name = user or "USER@DOMAIN"
    yield f"posthouse serves from {data}. Settings for a mail program:"
    yield f"  user name    {name}"
    if password:
        yield f"  password     {password}   (shown this once; `posthouse account password` sets a new one)"
    for key, kind, tls in (
        ("imaps", "IMAP", "SSL/TLS"),
        ("imap", "IMAP", "STARTTLS"),
        ("pop3s", "POP3", "SSL/TLS"),
        ("pop3", "POP3", "STARTTLS"),
        ("submissions", "SMTP", "SSL/TLS"),
        ("submission", "SMTP", "STARTTLS"),
    ):
        if key in ports:
            what = "outgoing" if kind == "SMTP" else "incoming"
            yield f"  {what}     {kind}, server {_reach(hosts[key])}, port {ports[key]}, {tls}"
    yield "  certificate  self-signed, the program asks once whether to trust it"
    secret = password or "PASSWORD"
    if "submission" in ports:
        yield "Send a letter:"
        where = f"{_reach(hosts['submission'])}:{ports['submission']}"
        yield f"  swaks --server {where} -tls --auth PLAIN --auth-user {name} --auth-password {secret} \\"
        yield f"        --from {name} --to {name} --header 'Subject: hello'"
    if "submissions" in ports:
        where = f"{_reach(hosts['submissions'])}:{ports['submissions']}"
        yield f"  printf 'From: {name}\\nSubject: hello\\n\\nhello\\n' | curl -k --crlf smtps://{where} \\"
        yield f"        --user {name}:{secret} --mail-from {name} --mail-rcpt {name} -T -"
    yield "Ctrl-C stops it."
    yield ""


def _reach(host: str) -> str:
    return "localhost" if host in ("", "*", "0.0.0.0", "[::]") else host  # noqa: S104 - compared


def demo(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="In shortened times, every step checked.")] = False,
    as_json: AsJson = False,
) -> None:
    """The story of a letter, live: two servers, an outage, retries, delivery, a login. With --once exits 0 when it
    came true."""
    _play(lambda: backend_of(ctx).demo(once=once), as_json=as_json)


def sim(
    ctx: typer.Context,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", metavar="N", min=1, help="Small worlds (2 servers, 4 people, a week): how many; 0.5 s each."
        ),
    ] = None,
    towns: Annotated[
        int | None,
        typer.Option("--towns", metavar="N", min=1, help="Towns instead (4 servers, 20 people, two weeks); 13 s each."),
    ] = None,
    cuts: Annotated[
        int | None, typer.Option("--cuts", metavar="N", min=1, help="Power cuts of a busy server instead; 0.03 s each.")
    ] = None,
    faults: Annotated[
        int | None,
        typer.Option(
            "--faults", metavar="N", min=1, help="Operations that a full or broken disk refuses instead; 0.3 s each."
        ),
    ] = None,
    from_seed: Annotated[int, typer.Option("--from", metavar="SEED", min=0, help="The first seed.")] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="J", min=1, help="Processes; all cores if unset.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let whole servers live through misfortune, in virtual time, and check that no letter is lost. Nothing real is
    touched; without an option it is one small world.

    The same seed is the same world. A failure prints the command that plays it again and what became of the letter.
    Exits 0 when none failed; docs/reliability.md tells what happens and what is checked.
    """
    kinds = {"seeds": seeds, "towns": towns, "cuts": cuts, "faults": faults}
    wanted = {kind: count for kind, count in kinds.items() if count is not None}
    if len(wanted) > 1:
        raise typer.BadParameter("one of --seeds, --towns, --cuts and --faults at a time")
    ((kind, count),) = wanted.items() or {"seeds": 1}.items()
    document: dict[str, Any] = {}

    def work() -> int:
        code, told = backend_of(ctx).sim(kind, count, from_seed, jobs)
        document.update(told)
        return code

    _play(work, as_json=as_json, document=document)


def _play(work: Callable[[], int], *, as_json: bool, document: Mapping[str, Any] = types.MappingProxyType({})) -> None:
    """`document`: what the work has to tell beside its exit code, filled in while it runs."""
    with _aside() if as_json else contextlib.nullcontext():
        code = guarded(work, as_json=False)
    answer({"passed": code == 0, **document}, lambda: None, as_json=as_json)
    raise typer.Exit(code)


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """What is told on the way, also by processes that are started, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
