# SPDX-License-Identifier: Apache-2.0
"""posthouse account."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posthouse.edges.cli.asking import AsJson, Data, PasswordStdin, answer, ask, backend_of, group, read_password
from posthouse.edges.cli.tables import ago, size, table

app = group("People's accounts: mailboxes, passwords, quotas.")
addresses = group("More addresses of an account.")
app_passwords = group("Passwords for one device or program each.")
app.add_typer(addresses, name="address")
app.add_typer(app_passwords, name="app-password")

Name = Annotated[str, typer.Argument(metavar="ADDRESS", show_default=False)]
Quota = Annotated[
    str | None, typer.Option("--quota", metavar="SIZE", help="The most its letters may take, as 5G; `none`: no limit.")
]
Language = Annotated[
    str | None, typer.Option("--language", metavar="en|zh", help="Language of letters from the server.")
]


@app.command("add")
def add(
    ctx: typer.Context,
    address: Name,
    data: Data,
    password_stdin: PasswordStdin = False,
    quota: Quota = None,
    language: Language = None,
    admin: Annotated[bool, typer.Option("--admin", help="Gets postmaster's letters of its domain.")] = False,
    name: Annotated[str, typer.Option("--name", help="The person's name.")] = "",
    password_hash: Annotated[
        bool,
        typer.Option(
            "--password-hash", help="What is read is another server's hash; it is replaced at the first login."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an account. Without --password-stdin the password is asked for, or made and printed once."""
    octets = _octets(quota)
    password, is_made = read_password(backend_of(ctx), from_stdin=password_stdin)
    if is_made and password_hash:
        raise typer.BadParameter("--password-hash needs the hash: type it or use --password-stdin")
    body: dict[str, Any] = {
        "address": address,
        "password_hash" if password_hash else "password": password,
        "quota": octets or None,
        "language": _language(language) or "en",
        "is_admin": admin,
        "display_name": name,
    }
    made = ask(ctx, data, lambda api: api.post("accounts", **body), as_json=as_json)
    made["address"] = address
    if is_made:
        made["password"] = password
    answer(made, lambda: _tell_password(f"{address} is here now.", password if is_made else ""), as_json=as_json)


@app.command("list")
def list_all(
    ctx: typer.Context,
    data: Data,
    domain: Annotated[str | None, typer.Argument(metavar="[DOMAIN]", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List the accounts with what they use."""
    query = {"domain": domain} if domain else {}
    rows = ask(ctx, data, lambda api: api.get("accounts", **query), as_json=as_json)
    cells = (
        (
            row["name"],
            "active" if row["is_active"] else "disabled",
            row["used_letters"],
            size(row["used_octets"]),
            size(row["quota"]) or "none",
            "admin" if row["is_admin"] else "",
            ", ".join(each for each in row["addresses"] if each != row["name"]),
        )
        for row in rows
    )
    heads = ("account", "state", ">letters", ">size", ">quota", "role", "also")
    answer(rows, lambda: table(heads, cells, none="There are no accounts."), as_json=as_json)


@app.command("password")
def password(
    ctx: typer.Context,
    address: Name,
    data: Data,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Set a new password; app passwords stay. Without --password-stdin it is asked for, or made and printed once."""
    text, is_made = read_password(backend_of(ctx), from_stdin=password_stdin)
    ask(ctx, data, lambda api: api.patch("accounts", address, password=text), as_json=as_json)
    answer(
        {"address": address, "password": text} if is_made else {},
        lambda: _tell_password(f"{address} has a new password.", text if is_made else ""),
        as_json=as_json,
    )


@app.command("change")
def change(
    ctx: typer.Context,
    address: Name,
    data: Data,
    quota: Quota = None,
    language: Language = None,
    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", help="Gets postmaster's letters of its domain.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the quota, the language or the role of an account."""
    octets = _octets(quota)
    wanted = {"quota": octets, "language": _language(language), "is_admin": admin}
    given = {key: value for key, value in wanted.items() if value is not None}
    if not given:
        raise typer.BadParameter("say what to change: --quota, --language, --admin or --no-admin")
    ask(ctx, data, lambda api: api.patch("accounts", address, **given), as_json=as_json)
    answer({}, lambda: typer.echo(f"{address} is changed."), as_json=as_json)


@app.command("disable")
def disable(ctx: typer.Context, address: Name, data: Data, as_json: AsJson = False) -> None:
    """No letters, no login; everything is kept."""
    ask(ctx, data, lambda api: api.patch("accounts", address, is_active=False), as_json=as_json)
    answer({}, lambda: typer.echo(f"{address} is disabled."), as_json=as_json)


@app.command("enable")
def enable(ctx: typer.Context, address: Name, data: Data, as_json: AsJson = False) -> None:
    """Letters and logins again."""
    ask(ctx, data, lambda api: api.patch("accounts", address, is_active=True), as_json=as_json)
    answer({}, lambda: typer.echo(f"{address} is enabled."), as_json=as_json)


@app.command("remove")
def remove(ctx: typer.Context, address: Name, data: Data, as_json: AsJson = False) -> None:
    """Remove an account and all its letters."""
    ask(ctx, data, lambda api: api.delete("accounts", address), as_json=as_json)
    answer({}, lambda: typer.echo(f"{address} and its letters are gone."), as_json=as_json)


# --- more addresses -------------------------------------------------------------------------------


@addresses.command("add")
def add_address(ctx: typer.Context, account: Name, extra: Name, data: Data, as_json: AsJson = False) -> None:
    """Give an account one more address."""
    ask(ctx, data, lambda api: api.post("accounts", account, "addresses", address=extra), as_json=as_json)
    answer({}, lambda: typer.echo(f"{account} also gets letters for {extra}."), as_json=as_json)


@addresses.command("remove")
def remove_address(ctx: typer.Context, account: Name, extra: Name, data: Data, as_json: AsJson = False) -> None:
    """Take an address away from an account."""
    ask(ctx, data, lambda api: api.delete("accounts", account, "addresses", extra), as_json=as_json)
    answer({}, lambda: typer.echo(f"{extra} is gone."), as_json=as_json)


# --- app passwords --------------------------------------------------------------------------------


@app_passwords.command("add")
def add_app_password(
    ctx: typer.Context,
    account: Name,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Which device or program.", show_default=False)],
    data: Data,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="smtp|pop3|imap", help="What it is good for; default all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a password for one device or program and print it once."""
    body: dict[str, Any] = {"label": label} | ({"scopes": scope} if scope else {})
    made = ask(ctx, data, lambda api: api.post("accounts", account, "app-passwords", **body), as_json=as_json)
    answer(made, lambda: _tell_password(f"{label}: number {made['id']}.", made["password"]), as_json=as_json)


@app_passwords.command("list")
def list_app_passwords(ctx: typer.Context, account: Name, data: Data, as_json: AsJson = False) -> None:
    """List the app passwords of an account (not the passwords themselves: they are not kept)."""
    now = backend_of(ctx).now()
    rows = ask(ctx, data, lambda api: api.get("accounts", account, "app-passwords"), as_json=as_json)
    cells = (
        (row["id"], row["label"], " ".join(row["scopes"]), ago(row["created_at"], now), ago(row["last_used_at"], now))
        for row in rows
    )
    heads = (">number", "label", "good for", "made", "last used")
    answer(rows, lambda: table(heads, cells, none="There are no app passwords."), as_json=as_json)


@app_passwords.command("revoke")
def revoke_app_password(
    ctx: typer.Context,
    account: Name,
    number: Annotated[int, typer.Argument(metavar="NUMBER", show_default=False)],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Make an app password worthless."""
    ask(ctx, data, lambda api: api.delete("accounts", account, "app-passwords", str(number)), as_json=as_json)
    answer({}, lambda: typer.echo(f"App password {number} is revoked."), as_json=as_json)


def _tell_password(text: str, made: str) -> None:
    typer.echo(text)
    if made:
        typer.echo(f"Its password, shown this once: {made}")


def _octets(text: str | None) -> int | None:
    """None: not said; 0: no limit."""
    from posthouse.config_values import parse_size

    if text is None or text.lower() == "none":
        return None if text is None else 0
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"--quota {text}: {error}") from None


def _language(text: str | None) -> str | None:
    if text not in (None, "en", "zh"):
        raise typer.BadParameter(f"--language {text}: letters from the server are written in en or zh")
    return text
