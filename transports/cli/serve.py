"""`main.py serve`: run a node until Ctrl-C or SIGTERM, which drains it first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from actors.runtime import ActorError
from infra.database.migrate import MigrationError
from infra.embedded.ground import EmbeddedError
from infra.settings import Settings, SettingsError
from infra.telemetry import configure
from transports.cli.options import DONE, fail, parser, run, say, settings_of
from transports.node import Node, running
from transports.parts import table


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser(
        "serve", "Run a node: gateway, call hosts, turn server, embedded database unless DATABASE_URL is set."
    )
    made.add_argument("--port", type=int, help="listen here (NODE_PORT)")
    made.add_argument("--name", help="this node's name (NODE_NAME)")
    options = made.parse_args(argv)
    settings = settings_of(options, node_port=options.port, node_name=options.name)
    return run(serve(settings))


async def serve(settings: Settings) -> int:
    """Serve until cancelled, then drain and stop."""
    configure(settings)
    try:
        async with running(settings, say) as node:
            announce(node)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("draining: live calls move to another node, or come back when this one does")
                with contextlib.suppress(TimeoutError, ActorError):
                    await node.drain()
                raise
    except (SettingsError, MigrationError, EmbeddedError, OSError) as error:
        fail(str(error))
    return DONE


def announce(node: Node) -> None:
    """Say what runs where."""
    say(table(node.parts))
    say(f"node {node.settings.node.name} takes calls at {node.settings.public_url}")
    stand_ins = [part.name for part in node.parts if part.stand_in]
    if stand_ins:
        say(f"stand-ins in use (refused in production): {', '.join(stand_ins)}")
