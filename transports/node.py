"""The one wiring file: everything a node is made of, in the order in which it starts.

embedded PostgreSQL and Valkey (or DATABASE_URL, REDIS_URL) → migrations
supervisor: this process. Keeps the listening socket, the processes, the host keeper and the operators' entrance
  │  the actors that work by the clock (transports/clockwork.py): booked calls, payments, archives, upkeep
  ├─ turns     forked   answers "has the caller finished?" for every call of the node
  ├─ host-N    forked   up to CALLS_PER_HOST calls each (transports/host.py)
  └─ gateway   exec'd   REST, webhooks, page (transports/gateway.py); inherits the listening socket
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from pydantic import SecretStr

from actors.hosts import DrainHost, HostKeeper, Hosts, Limits, ListHosts
from actors.runtime import ActorSpec, ProcessSpec, System, SystemClock
from actors.runtime.forked import ForkedPlacement
from infra.database import migrate
from infra.database.nodes import NodeStore
from infra.database.pool import SERVER_AWAY, pool
from infra.embedded.holding import backing
from infra.embedded.postgres import Postgres
from infra.embedded.valkey import Valkey
from infra.settings import Settings
from infra.telephony.twilio import carrier_of
from infra.vault import own_key
from transports.clockwork import clockwork
from transports.gateway import GatewayArgs
from transports.hosting import HostArgs
from transports.operator import OperatorDesk
from transports.parts import Part, parts_of, refuse_stand_ins
from transports.switchboard import Switchboard

log = structlog.get_logger()
BACKLOG = 1024
NODE_BEAT_SECONDS = 2.0
DRAIN_POLL_SECONDS = 0.1
DRAIN_MARGIN_SECONDS = 3.0  # beyond what hosts get to find a quiet moment
TURNS = "turns"
KEEPER = "hosts"


@dataclass(frozen=True, slots=True)
class Node:
    """A running node. `drain` moves its calls away; leaving the block of `running` stops it."""

    settings: Settings
    system: System
    database: str
    parts: list[Part]
    entrance: Path

    async def drain(self) -> None:
        """Take no new calls and let every live one go to another node; returns when they have gone, or in time."""
        keeper = self.system.ref(KEEPER)
        await keeper.ask(DrainHost(), timeout=5.0)
        async with asyncio.timeout(self.settings.node.drain_seconds + DRAIN_MARGIN_SECONDS):
            while True:
                told = await keeper.ask(ListHosts(), timeout=5.0, expect=Hosts)
                if not any(host["calls"] for host in told.hosts):
                    return
                await asyncio.sleep(DRAIN_POLL_SECONDS)


@contextlib.asynccontextmanager
async def running(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> AsyncIterator[Node]:
    """Start a node, and stop it at the end of the block.

    `tell` is told each step for a person to read.

    Raises:
        SettingsError: production with stand-ins.
        MigrationError: the database does not match this version; nothing was started.
        OSError: the port is taken, or the database cannot be reached.
    """
    refuse_stand_ins(settings, parts_of(settings, "", ""))
    async with contextlib.AsyncExitStack() as stack:
        listening = listen(settings)
        stack.callback(listening.close)
        settings = settings.model_copy(
            update={"node": settings.node.model_copy(update={"port": listening.getsockname()[1]})}
        )
        tell("starting the database")
        database, cache = await stack.enter_async_context(stores(settings))
        await migrate.up(database)
        chosen, settings = settings, keyed(settings)
        run = run_folder(settings)
        system = await stack.enter_async_context(System("node", clock=SystemClock()))
        tell("starting the call hosts")
        parts = parts_of(chosen, visible(database), visible(cache))
        processes = await stack.enter_async_context(placement(system, settings))
        entrance = run / "ops.sock"
        await open_entrance(system, entrance)
        opened = await stack.enter_async_context(pool(database, min_size=1, max_size=12))
        nodes = NodeStore(opened)
        await nodes.register(settings.node.name, settings.public_url, os.getpid())
        stack.push_async_callback(forget, nodes, settings)
        beating = asyncio.create_task(beat(nodes, settings), name="node-beat")
        stack.callback(beating.cancel)
        await system.spawn(host_keeper(settings, processes, database, run))
        stack.push_async_callback(system.stop_actor, KEEPER)
        carrier = carrier_of(settings)
        stack.push_async_callback(carrier.close)
        board = Switchboard.of(settings, opened, carrier, system, KEEPER)
        await system.spawn(ActorSpec(lambda: OperatorDesk(board), name="operator", restart="permanent"))
        await processes.start(turn_server(run))
        tell("opening the gateway")
        await processes.start(gateway(settings, database, cache, parts, listening.fileno()))
        for spec in await stack.enter_async_context(clockwork(settings, database, opened, board)):
            await system.spawn(spec)
            stack.push_async_callback(system.stop_actor, spec.name)
        log.info("node_ready", node=settings.node.name, url=settings.public_url)
        yield Node(settings, system, database, parts, entrance)


async def open_entrance(system: System, path: Path) -> None:
    """The operators' private socket; it also tells two nodes of one name apart."""
    try:
        await system.listen(path)
    except OSError as error:
        name = path.parent.name
        raise OSError(f"A node named {name} runs here already ({error.strerror}). Set NODE_NAME to another.") from error


def listen(settings: Settings) -> socket.socket:
    """The node's listening socket. It stays open here while gateways come and go, so none of them is missed."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.node.bind, settings.node.port))
    except OSError as error:
        listening.close()
        address = f"{settings.node.bind}:{settings.node.port}"
        raise OSError(f"Cannot listen on {address}: {error.strerror}. Set NODE_PORT to a free port.") from error
    listening.listen(BACKLOG)
    return listening


@contextlib.asynccontextmanager
async def stores(settings: Settings) -> AsyncIterator[tuple[str, str]]:
    """The addresses of the database and the cache; the embedded ones run while the block does."""
    database = backing(settings.database_url.get_secret_value(), Postgres(settings.node.var / "postgres"))
    cache = backing(settings.redis_url.get_secret_value(), Valkey(settings.node.var / "valkey"))
    async with database as postgres, cache as valkey:
        yield postgres.url, valkey.url


@contextlib.asynccontextmanager
async def placement(system: System, settings: Settings) -> AsyncIterator[ForkedPlacement]:
    """Starts processes; the template they fork from has loaded what every call needs."""
    modules = ("transports.host", "bots.turns.server")
    told = {"settings": dump(settings)}
    processes = ForkedPlacement(system, preload=modules, prepare="transports.host:prepare", told=told)
    await processes.open()
    try:
        yield processes
    finally:
        await processes.close()


def host_keeper(settings: Settings, processes: ForkedPlacement, database: str, run: Path) -> ActorSpec:
    """Which host runs which call."""
    limits = Limits(
        settings.calls.per_host,
        settings.calls.max_hosts,
        settings.calls.warm_hosts,
        settings.calls.max_lag_ms,
        settings.calls.max_turn_delay_ms,
    )
    spec = host_spec(settings, database, run)
    return ActorSpec(lambda: HostKeeper(processes, spec, limits, TURNS), name=KEEPER, restart="permanent")


def host_spec(settings: Settings, database: str, run: Path) -> Callable[[str], tuple[ProcessSpec, str]]:
    """What to start as a call host of a given name."""

    def of(name: str) -> tuple[ProcessSpec, str]:
        intake = str(run / f"{name}.sock")
        args = HostArgs(name, settings.node.name, dump(settings), database, intake, str(run / "turns.sock"))
        spec = ProcessSpec(
            name,
            "transports.host:main",
            msgspec.to_builtins(args, builtin_types=(bytes,)),
            restart="temporary",
            ready=True,
            stall_s=settings.calls.stall_seconds,
            memory_mb=settings.calls.host_memory_mb,
        )
        return spec, intake

    return of


def turn_server(run: Path) -> ProcessSpec:
    return ProcessSpec(TURNS, "bots.turns.server:main", {"socket": str(run / "turns.sock")})


def gateway(settings: Settings, database: str, cache: str, parts: list[Part], listening: int) -> ProcessSpec:
    rows = [(part.name, part.engine, part.address, part.stand_in) for part in parts]
    args = msgspec.to_builtins(GatewayArgs(dump(settings), database, cache, rows), builtin_types=(bytes,))
    return ProcessSpec("gateway", "transports.gateway:main", args, {"listen": listening}, start="exec", ready=True)


def keyed(settings: Settings) -> Settings:
    """The settings with a master key: in development, one of this machine's own where none is set."""
    if settings.vault.master_key.get_secret_value():
        return settings
    own = SecretStr(own_key(settings.node.var))
    return settings.model_copy(update={"vault": settings.vault.model_copy(update={"master_key": own})})


def run_folder(settings: Settings) -> Path:
    """Where this node's sockets lie: private, and short enough for a socket's address."""
    folder = (settings.node.var / "run" / settings.node.name).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def dump(settings: Settings) -> bytes:
    """The settings with their secrets, for our own child processes only."""
    return msgspec.json.encode(reveal(settings.model_dump(mode="python")))


def reveal(value: Any) -> Any:
    """A copy of a settings dump with its secrets in plain."""
    if isinstance(value, dict):
        return {key: reveal(inner) for key, inner in value.items()}
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def visible(url: str) -> str:
    """An address without its credentials."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://{tail}" if at else url


async def forget(nodes: NodeStore, settings: Settings) -> None:
    """Tell the database that this node has stopped."""
    with contextlib.suppress(*SERVER_AWAY):
        await nodes.forget(settings.node.name, os.getpid())


async def beat(nodes: NodeStore, settings: Settings) -> None:
    """Tell the database that this node is there."""
    while True:
        try:
            if not await nodes.heartbeat(settings.node.name, os.getpid()):
                log.error("node_name_taken", node=settings.node.name, remedy="give each node its own NODE_NAME")
        except SERVER_AWAY as error:
            log.debug("beat_missed", error=repr(error))
        await asyncio.sleep(NODE_BEAT_SECONDS)
