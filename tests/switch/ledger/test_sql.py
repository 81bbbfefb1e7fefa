"""The SQL files are found in the package, and each named query fits the shipped schema."""

from __future__ import annotations

from importlib.resources import files

import pytest

from switch.ledger import bridge, sql

QUERY_FILES = ["queries.sql", "lane.sql"]


@pytest.mark.parametrize("file", QUERY_FILES)
async def test_every_named_query_is_understood_by_the_ledger(
    connection: bridge.Connection, file: str
) -> None:
    assert sql.queries(file)
    for query in sql.queries(file).values():
        await connection.prepare(query)


@pytest.mark.parametrize("file", QUERY_FILES)
def test_names_are_given_once(file: str) -> None:
    assert sql.script(file).count("\n-- name: ") == len(sql.queries(file))


def test_migrations_are_numbered_without_a_gap() -> None:
    versions = [migration.version for migration in sql.migrations()]
    assert versions == list(range(1, len(versions) + 1))
    shipped = [e for e in files("switch.ledger").joinpath("migrations").iterdir() if e.is_file()]
    assert len(shipped) == len(versions), "a file that does not look like 0001_name.sql"


def test_the_hash_of_the_functions_depends_on_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sql.functions_hash()
    assert {"load_batch.sql", "post_batch.sql"} <= sql.functions().keys()
    changed = sql.functions() | {"load_batch.sql": "-- another"}
    monkeypatch.setattr(sql, "functions", lambda: changed)
    assert sql.functions_hash.__wrapped__() != before
