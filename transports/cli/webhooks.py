"""`main.py ops webhooks`: what payment providers told us, and having it applied once more."""

from __future__ import annotations

import argparse

import asyncpg
import msgspec

from infra.database import migrate
from infra.database.inbox import Inbox, Listed
from infra.database.pool import SERVER_AWAY, pool
from infra.embedded.ground import EmbeddedError
from infra.settings import Settings
from transports.cli.options import DONE, FAILED, fail, say
from transports.node import stores

STATES = ("received", "done", "dead")
COLUMNS = ("provider", "event", "kind", "state", "tries", "received", "error")


def options_of(acts: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command's options to those of `ops`."""
    made: argparse.ArgumentParser = acts.add_parser("webhooks", help="what payment providers told us: list, replay")
    kinds = made.add_subparsers(dest="webhooks", metavar="ACT", required=True)
    listing = kinds.add_parser("list", help="the newest events")
    listing.add_argument("--state", choices=STATES, help="only these; dead ones were given up")
    listing.add_argument("--provider", help="only this provider's, such as stripe")
    listing.add_argument("--limit", type=int, default=50, help="how many (default: 50)")
    replay = kinds.add_parser("replay", help="apply events once more; doing that twice changes nothing")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("event", nargs="?", help="the event's id at its provider")
    which.add_argument("--dead", action="store_true", help="all that were given up")
    for act in (listing, replay):
        act.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print for machines")
    return made


async def work(settings: Settings, options: argparse.Namespace) -> int:
    """List or replay; 1 if there is no such event."""
    try:
        async with stores(settings) as (database, _):
            await migrate.status(database)
            async with pool(database, min_size=1, max_size=1) as opened:
                return await act(Inbox(opened), options)
    except (migrate.MigrationError, EmbeddedError) as error:
        fail(str(error))
    except asyncpg.UndefinedTableError:
        fail("The database has no webhooks yet. Bring it to this version: main.py migrate")
    except SERVER_AWAY as error:
        fail(f"The database cannot be reached: {error}")


async def act(inbox: Inbox, options: argparse.Namespace) -> int:
    """Do what was asked for."""
    if options.webhooks == "list":
        show(await inbox.list(options.state, options.provider, options.limit), as_json=options.json)
        return DONE
    count = await (inbox.replay(state="dead") if options.dead else inbox.replay(event_id=options.event))
    if options.json:
        say(msgspec.json.encode({"replayed": count}).decode())
    else:
        say(f"{count} to be applied once more")
    if count or options.dead:
        return DONE
    say(f"There is no event {options.event}. main.py ops webhooks list shows those there are.", error=True)
    return FAILED


def show(events: tuple[Listed, ...], *, as_json: bool) -> None:
    """Print events, as a table or for machines."""
    if as_json:
        say(msgspec.json.encode({"events": events}).decode())
        return
    table = [COLUMNS, *map(row, events)] if events else []
    say(f"webhooks: {len(events)}")
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))] if table else []
    for line in table:
        say("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def row(event: Listed) -> tuple[str, ...]:
    received = f"{event.received_at:%Y-%m-%d %H:%M:%S}"
    told = (event.provider, event.event_id, event.kind, event.state, str(event.attempts), received)
    return (*told, (event.error or "")[:80])
