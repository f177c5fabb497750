# SPDX-License-Identifier: Apache-2.0
"""One SQL text for both databases: the store's tests on PostgreSQL, and every statement of the store prepared there."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from posthouse.store.databases.migrate import packaged
from posthouse.store.databases.postgres_engine import connect, rewrite
from tests.cluster import new_schema

from .programs import ROOT

pytestmark = pytest.mark.interop

STORE = ROOT / "src" / "posthouse"
# What talks to one database in its own words, and to no other.
OF_ONE_DATABASE = ("store/databases/",)
PLAIN = re.compile(r"PlainDatabase|new_account|queue_world|[. ]world import")
STATEMENT = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s")
PARAMETER = re.compile(r"%\((\w+)\)s")


@pytest.fixture(scope="module")
def seen(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The statements that the tests of store and services ran on PostgreSQL; those tests must pass."""
    files = [
        str(path)
        for folder in ("store", "services")
        for path in sorted((ROOT / "tests" / folder).rglob("test_*.py"))
        if PLAIN.search(path.read_text("utf-8"))
    ]
    assert len(files) > 10
    noted = tmp_path_factory.mktemp("sql") / "seen"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "not interop and not slow", "-n", "0", *files],
        cwd=ROOT,
        env={**os.environ, "POSTHOUSE_PLAIN_POSTGRES": postgres, "POSTHOUSE_SEEN_STATEMENTS": str(noted)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return {json.loads(line) for line in noted.read_text("utf-8").splitlines()}


def test_the_tests_of_store_and_services_pass_on_postgresql(seen: set[str]) -> None:
    assert len(seen) > 200


def test_every_statement_of_the_source_is_one_for_postgresql(seen: set[str], postgres: str) -> None:
    """A statement written out whole is prepared; one put together was run by the tests above."""
    schema = new_schema(postgres, f"prepared_{os.getpid()}")
    prepared, wrong = 0, []
    with connect(schema, is_automatic=True) as connection:
        for migration in packaged():
            for statement in migration.statements:
                connection.execute(rewrite(statement))
        for place, parts in statements_of_the_source():
            if len(parts) == 1:
                fault = None if parts[0] in seen else prepare(connection, parts[0])
                prepared += 1
            else:
                pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
                fault = None if any(pattern.fullmatch(sql) for sql in seen) else "no test runs it"
            if fault:
                wrong.append(f"{place}: {fault}")
    assert not wrong, "\n".join(wrong)
    assert prepared > 100


def statements_of_the_source() -> Iterator[tuple[str, list[str]]]:
    """(file:line, the constant parts) of every SQL text; one part when it is written out whole."""
    for path in sorted(STORE.rglob("*.py")):
        name = str(path.relative_to(STORE))
        if name.startswith(OF_ONE_DATABASE):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        # What is added to something else is no statement of its own.
        sums = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
        inside |= {id(node.right) for node in sums}
        begins = {id(node.left) for node in sums}
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [""]
                for part in node.values:
                    if isinstance(part, ast.Constant):
                        parts[-1] += str(part.value)
                    else:
                        parts.append("")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docs:
                parts = [node.value, ""] if id(node) in begins else [node.value]
            else:
                continue
            if STATEMENT.match(parts[0]):
                yield f"{name}:{node.lineno}", parts


def prepare(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> str | None:
    """What PostgreSQL has against the statement; None when it takes it."""
    names = list(dict.fromkeys(PARAMETER.findall(rewrite(sql).decode())))
    text = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", rewrite(sql).decode()).replace("%%", "%")
    try:
        connection.execute(f"PREPARE one AS {text}".encode())
        connection.execute("DEALLOCATE one")
    except psycopg.Error as error:
        return f"{error}\n{sql}"
    return None
