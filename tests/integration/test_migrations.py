"""The schema moves in whole steps, once, both ways, and never behind our back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from infra.database import migrate
from infra.database.migrate import MigrationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 1, "cats", "create table cats (name text primary key);", "drop table cats;")
    write(tmp_path, 2, "ages", "alter table cats add age int;", "alter table cats drop age;")
    return tmp_path


def write(folder: Path, number: int, name: str, up: str, down: str) -> None:
    (folder / f"{number:04}_{name}.sql").write_text(up)
    (folder / f"{number:04}_{name}.rollback.sql").write_text(down)


async def fetch(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_up_up_again_down_up_on_a_filled_database_keeps_the_data(empty_database_url: str, folder: Path) -> None:
    """COM-61: running twice changes nothing; a step taken back and applied again leaves other data alone."""
    url = empty_database_url
    assert await migrate.up(url, folder=folder) == ("0001_cats", "0002_ages")
    await fetch(url, "insert into cats values ('Minka', 3), ('Tom', 4)")
    assert await migrate.up(url, folder=folder) == ()
    assert await migrate.down(url, 1, folder=folder) == ("0002_ages",)
    assert [step.applied_at is not None for step in await migrate.status(url, folder=folder)] == [True, False]
    assert await migrate.up(url, folder=folder) == ("0002_ages",)
    rows = await fetch(url, "select name, age from cats order by name")
    assert [tuple(row) for row in rows] == [("Minka", None), ("Tom", None)]


async def test_the_products_own_schema_goes_up_down_and_up(empty_database_url: str) -> None:
    """COM-61: every rollback of ours takes back all that its step made."""
    url = empty_database_url
    applied = await migrate.up(url)
    made = await objects(url)
    assert await migrate.down(url, 0) == tuple(reversed(applied))
    assert await objects(url) == ["migrations", "migrations_pkey"]
    assert await migrate.up(url) == applied
    assert await objects(url) == made


async def objects(url: str) -> list[str]:
    rows = await fetch(
        url,
        # What an extension brought belongs to it: extensions stay, for they may have been there before us.
        "with foreign_ones as (select objid from pg_depend where deptype = 'e') "
        "select relname as name from pg_class where relnamespace = 'public'::regnamespace "
        "and oid not in (select objid from foreign_ones) "
        "union all select proname from pg_proc where pronamespace = 'public'::regnamespace "
        "and oid not in (select objid from foreign_ones) "
        "union all select typname from pg_type "
        "where typnamespace = 'public'::regnamespace and typtype in ('e', 'd') "
        "and oid not in (select objid from foreign_ones) "
        "order by 1",
    )
    return [row["name"] for row in rows]


async def test_a_step_that_fails_leaves_the_version_before_it(empty_database_url: str, folder: Path) -> None:
    """COM-61: a failing migration stops the deploy, and what served before still can."""
    write(folder, 3, "broken", "alter table cats add colour text; select no_such_function();", "select 1;")
    with pytest.raises(MigrationError, match=r"0003_broken does not apply: .*no_such_function.*mend the file"):
        await migrate.up(empty_database_url, folder=folder)
    columns = await fetch(empty_database_url, "select * from information_schema.columns where table_name = 'cats'")
    assert {row["column_name"] for row in columns} == {"name", "age"}
    steps = await migrate.status(empty_database_url, folder=folder)
    assert [step.applied_at is not None for step in steps] == [True, True, False]


async def test_a_changed_or_missing_file_is_refused(empty_database_url: str, folder: Path) -> None:
    """COM-61: what was applied is known by its checksum."""
    await migrate.up(empty_database_url, folder=folder)
    text = (folder / "0002_ages.sql").read_text()
    (folder / "0002_ages.sql").write_text(text + "-- and more")
    for act in (
        migrate.up(empty_database_url, folder=folder),
        migrate.down(empty_database_url, 0, folder=folder),
    ):
        with pytest.raises(MigrationError, match=r"0002_ages\.sql was changed .*put the change into a new migration"):
            await act
    (folder / "0002_ages.sql").unlink()
    (folder / "0002_ages.rollback.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_ages\.sql was applied .*missing here: restore the file"):
        await migrate.up(empty_database_url, folder=folder)


async def test_nodes_that_start_at_once_apply_each_step_once(empty_database_url: str, folder: Path) -> None:
    """COM-61: an advisory lock lets one node migrate while the others wait."""
    outcomes = await asyncio.gather(*(migrate.up(empty_database_url, folder=folder) for _ in range(5)))
    assert sorted(len(titles) for titles in outcomes) == [0, 0, 0, 0, 2]


async def test_a_number_that_does_not_exist_is_refused(empty_database_url: str, folder: Path) -> None:
    with pytest.raises(MigrationError, match="There is no migration 7: choose a number from 0 to 2"):
        await migrate.down(empty_database_url, 7, folder=folder)
