"""`main.py migrate`: the database's schema, forwards, backwards, or just shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from infra.database import migrate
from infra.embedded.ground import EmbeddedError
from infra.settings import Settings
from transports.cli.options import DONE, fail, parser, run, say, settings_of
from transports.node import stores


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser(
        "migrate",
        "Bring the database to this version. Safe to run twice; nodes do it by themselves at start.",
    )
    made.add_argument("--down", type=int, metavar="NUMBER", help="roll back to this migration; 0 removes everything")
    made.add_argument("--dry-run", action="store_true", help="only show what is applied and what is not")
    made.add_argument("--json", action="store_true", help="print for machines")
    options = made.parse_args(argv)
    return run(work(settings_of(options), options.down, options.dry_run, options.json))


async def work(settings: Settings, down: int | None, dry_run: bool, as_json: bool) -> int:
    """Migrate, then show where the database stands."""
    try:
        async with stores(settings) as (database, _):
            if not dry_run:
                await (migrate.up(database) if down is None else migrate.down(database, down))
            standing = await migrate.status(database)
    except (migrate.MigrationError, EmbeddedError, OSError) as error:
        fail(str(error))
    if as_json:
        say(msgspec.json.encode(standing).decode())
    else:
        for step in standing:
            say(f"{step.title}: {f'applied {step.applied_at:%Y-%m-%d %H:%M:%S}' if step.applied_at else 'not applied'}")
    return DONE
