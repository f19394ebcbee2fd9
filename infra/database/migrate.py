"""The schema, in numbered steps: `migrations/NNNN_name.sql`, each with its `NNNN_name.rollback.sql`.

Each step runs in a transaction of its own together with its row in `migrations`, under an advisory lock, so
two nodes that start at once apply it once, and a step that fails leaves the version before it intact. What
was applied is remembered with its checksum: a file that was changed or removed afterwards is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg
import structlog

from infra.database import queries

FOLDER = Path(__file__).with_name("migrations")
FILE_NAME = re.compile(r"(\d{4})_([a-z][a-z0-9_]*)\.sql")
LOCK = 0x52494E47  # "RING"
STATEMENT_SECONDS = 3600.0

log = structlog.get_logger()
sql = queries.load("migrations", "create_table", "lock", "unlock", "applied", "insert", "delete")


class MigrationError(Exception):
    """The schema was left as it was. The message names the file and what to do about it."""


@dataclass(frozen=True)
class Migration:
    """One numbered step, as it lies on disk."""

    number: int
    name: str
    up: str
    down: str

    @property
    def title(self) -> str:
        """The file name without its suffix, such as `0001_calls`."""
        return f"{self.number:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the step; its rollback may be mended later."""
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True)
class MigrationStatus:
    """One step and when it was applied (None: not yet)."""

    number: int
    title: str
    applied_at: datetime | None


def read(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The steps in `folder`, in order.

    Raises:
        MigrationError: a step has no rollback, a number is doubled or missing, or a file has no number.
    """
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        if path.name.endswith(".rollback.sql"):
            if not path.with_name(path.name.replace(".rollback.sql", ".sql")).is_file():
                raise MigrationError(f"{path.name} rolls back nothing: add its step or remove it.")
            continue
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not called NNNN_name.sql: rename it.")
        rollback = path.with_name(f"{path.stem}.rollback.sql")
        if not rollback.is_file():
            raise MigrationError(f"{path.name} cannot be taken back: write {rollback.name}.")
        found.append(Migration(int(match[1]), match[2], path.read_text(), rollback.read_text()))
    for expected, migration in enumerate(found, 1):
        if migration.number != expected:
            raise MigrationError(f"{migration.title}.sql comes where number {expected:04} is due: renumber it.")
    return tuple(found)


async def up(dsn: str, *, folder: Path = FOLDER) -> tuple[str, ...]:
    """Apply every step that is not applied yet; returns their titles (none when run again).

    Raises:
        MigrationError: a file was changed or is missing, or a step failed; earlier steps stay applied.
    """
    steps = read(folder)
    async with _locked(dsn) as connection:
        done = await _agreed(connection, steps)
        waiting = [step for step in steps if step.number not in done]
        for step in waiting:
            await _run(connection, step, step.up, sql.insert, step.number, step.name, step.checksum)
    return tuple(step.title for step in waiting)


async def down(dsn: str, to: int, *, folder: Path = FOLDER) -> tuple[str, ...]:
    """Take back every step above number `to` (0: all of them), the last one first; returns their titles.

    Raises:
        MigrationError: as for `up`; steps above the one that failed stay taken back.
    """
    steps = read(folder)
    if not 0 <= to <= len(steps):
        raise MigrationError(f"There is no migration {to}: choose a number from 0 to {len(steps)}.")
    async with _locked(dsn) as connection:
        done = await _agreed(connection, steps)
        leaving = [step for step in reversed(steps) if step.number in done and step.number > to]
        for step in leaving:
            await _run(connection, step, step.down, sql.delete, step.number)
    return tuple(step.title for step in leaving)


async def status(dsn: str, *, folder: Path = FOLDER) -> tuple[MigrationStatus, ...]:
    """Every step with the time it was applied.

    Raises:
        MigrationError: a file was changed or is missing.
    """
    steps = read(folder)
    async with _locked(dsn) as connection:
        done = await _agreed(connection, steps)
    return tuple(MigrationStatus(step.number, step.title, done.get(step.number)) for step in steps)


@contextlib.asynccontextmanager
async def _locked(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, command_timeout=STATEMENT_SECONDS)
    try:
        await connection.execute(sql.lock, LOCK)
        await connection.execute(sql.create_table)
        yield connection
        await connection.execute(sql.unlock, LOCK)
    finally:
        await connection.close()


async def _agreed(connection: asyncpg.Connection, steps: Sequence[Migration]) -> dict[int, datetime]:
    """What is applied, once it is certain that the files say the same."""
    files = {step.number: step for step in steps}
    done: dict[int, datetime] = {}
    for row in await connection.fetch(sql.applied):
        title = f"{row['number']:04}_{row['name']}"
        step = files.get(row["number"])
        if step is None:
            raise MigrationError(
                f"{title}.sql was applied on {row['applied_at']:%Y-%m-%d} but is missing here: "
                "restore the file, or run the newer version of the server that brought it."
            )
        if step.checksum != row["checksum"] or step.name != row["name"]:
            raise MigrationError(
                f"{title}.sql was changed after it was applied on {row['applied_at']:%Y-%m-%d}: "
                "restore it as it was and put the change into a new migration."
            )
        done[row["number"]] = row["applied_at"]
    if sorted(done) != list(range(1, len(done) + 1)):
        raise MigrationError(f"The applied migrations {sorted(done)} have a gap: restore the table from a backup.")
    return done


async def _run(connection: asyncpg.Connection, step: Migration, text: str, record: str, *values: object) -> None:
    try:
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute(record, *values)
    except asyncpg.PostgresError as error:
        problem = str(error).splitlines()[0].rstrip(".")
        verb = "apply" if text is step.up else "be taken back"
        raise MigrationError(
            f"{step.title} does not {verb}: {problem}. The schema is as it was before it; mend the file and try again."
        ) from error
    log.info("migration_applied" if text is step.up else "migration_taken_back", migration=step.title)
