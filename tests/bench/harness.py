"""What every benchmark stands on: programs pinned to a core, the phone network, our node, the stock bot.

The server under test has one core, everything else another: the phone network, PostgreSQL, Valkey and the benchmark
itself. On a machine with a single core they share it, and the report says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import asyncpg
import psutil

from actors.runtime import Inspect, Tree
from actors.runtime.forked import connect
from infra.embedded.holding import hold
from infra.embedded.postgres import Postgres
from infra.embedded.valkey import Valkey

ROOT = Path(__file__).parents[2]
NODE = "bench"
UP_SECONDS = 90.0
STOP_SECONDS = 20.0
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = {CORES[0]}
OTHER_CORE = {CORES[-1]}
EVERY_CORE = set(CORES)
ENDLESS = """
create or replace function bench_rounds() returns trigger language plpgsql as $$
begin new.options = new.options || '{"rounds": 100000}'; return new; end $$;
create or replace trigger bench_rounds before insert on calls for each row execute function bench_rounds();
"""


class BenchError(Exception):
    """The benchmark itself could not run; no bar is judged."""


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Programs started in the block live on these cores, with all that they start."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def program(
    arguments: Sequence[str], cores: set[int], log: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[psutil.Process]:
    """A Python program of ours for the length of the block, its output in `log`."""
    mine = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "USER", "TMPDIR"}}
    with log.open("wb") as output, pinned(cores):
        child = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdout=output, stderr=output, env={**mine, **(environ or {})}
        )
    try:
        yield psutil.Process(child.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            child.kill()
            await child.wait()


async def answering(port: int, process: psutil.Process, log: Path) -> None:
    """Wait until somebody listens on the port.

    Raises:
        BenchError: the program ended or stayed silent; the end of its log is in the message.
    """
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            break
        await asyncio.sleep(0.1)
    raise BenchError(f"A program of the benchmark did not come up:\n{log.read_text(errors='replace')[-2000:]}")


@dataclass
class Network:
    """The phone network in a box, asked over its control API."""

    url: str
    process: psutil.Process
    session: aiohttp.ClientSession = field(repr=False)

    async def dial(self, voice_url: str, persona: str, count: int = 1) -> list[str]:
        """Have callers call; their call ids."""
        body = {"to": "+15550100000", "persona": persona, "voice_url": voice_url, "count": count}
        async with self.session.post(f"{self.url}/simulator/dial", json=body) as answer:
            told = await answer.json(content_type=None)
            if answer.status >= 400:
                raise BenchError(f"The phone network refuses to dial: {told.get('detail')}")
            return list(told["calls"])

    async def calls(self, *, live: bool = False) -> list[dict[str, Any]]:
        """The record of every call."""
        async with self.session.get(f"{self.url}/simulator/calls{'?live=1' if live else ''}") as answer:
            return list((await answer.json())["calls"])

    async def lag(self) -> dict[str, Any]:
        """How late the network itself was, in ms, since it started."""
        async with self.session.get(f"{self.url}/simulator/measures") as answer:
            return dict((await answer.json())["own_lag_ms"])

    async def hang_up(self, sid: str) -> None:
        """The caller hangs up."""
        async with self.session.post(f"{self.url}/simulator/calls/{sid}/hangup"):
            pass

    async def reset(self) -> None:
        """End every call and forget it."""
        async with self.session.post(f"{self.url}/simulator/reset"):
            pass


@contextlib.asynccontextmanager
async def network(folder: Path, cores: set[int] = OTHER_CORE) -> AsyncIterator[Network]:
    """A phone network as a program of its own."""
    port, log = free_port(), folder / "network.log"
    arguments = ("-m", "transports.simulator", "--port", str(port), "--seed", "1")
    timeout = aiohttp.ClientTimeout(total=120)
    async with program(arguments, cores, log) as process, aiohttp.ClientSession(timeout=timeout) as session:
        await answering(port, process, log)
        yield Network(f"http://127.0.0.1:{port}", process, session)


@dataclass(frozen=True)
class Ground:
    """Where a benchmark keeps its files, and its PostgreSQL and Valkey."""

    folder: Path
    database: str
    cache: str

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """Rows of the benchmark's database."""
        connection = await asyncpg.connect(self.database)
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()

    async def execute(self, sql: str) -> None:
        """Change the benchmark's database."""
        connection = await asyncpg.connect(self.database)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextlib.asynccontextmanager
async def ground(cores: set[int] = OTHER_CORE) -> AsyncIterator[Ground]:
    """A folder of the benchmark's own with an embedded PostgreSQL and Valkey, all gone at the end."""
    with tempfile.TemporaryDirectory(prefix="rdbench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with pinned(cores):
            async with contextlib.AsyncExitStack() as stack:
                postgres = await stack.enter_async_context(hold(Postgres(folder / "postgres")))
                valkey = await stack.enter_async_context(hold(Valkey(folder / "valkey")))
                yield Ground(folder, postgres.url, valkey.url)


class Server(Protocol):
    """A voice bot under test."""

    @property
    def name(self) -> str: ...

    @property
    def voice_url(self) -> str: ...

    async def processes(self) -> dict[str, psutil.Process]:
        """Its processes by what they do; call hosts are named `host-N`."""
        ...

    async def decisions(self, since: float, until: float) -> list[float]:
        """Turn decisions in ms after voice activity stopped, made between two moments (seconds since 1970)."""
        ...


@dataclass(frozen=True)
class Ours:
    """A node of ours."""

    name: str
    voice_url: str
    entrance: Path
    ground: Ground
    process: psutil.Process

    async def processes(self) -> dict[str, psutil.Process]:
        pids = {"supervisor": self.process.pid}
        async with await connect(self.entrance, timeout=10.0) as node:
            tree = await node.ref("system/node").ask(Inspect(), timeout=10.0, expect=Tree)
        for status in tree.statuses:
            pid = status.snapshot.get("pid")
            if isinstance(pid, int) and pid and status.state == "running":
                pids[status.name] = pid
        found: dict[str, psutil.Process] = {}
        for name, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                found[name] = psutil.Process(pid)
        return found

    async def decisions(self, since: float, until: float) -> list[float]:
        rows = await self.ground.fetch(
            "select (timings->>'decision_ms')::float8 as ms from call_turns where who = 'caller'"
            " and timings ? 'decision_ms' and at between to_timestamp($1) and to_timestamp($2)",
            since,
            until,
        )
        return [row["ms"] for row in rows]


@contextlib.asynccontextmanager
async def ours(
    ground: Ground,
    network: Network,
    *,
    name: str = "ours",
    hosts: int = 4,
    per_host: int = 10,
    doubles: bool = True,
    endless: bool = True,
    cores: set[int] = SERVER_CORE,
    **settings: object,
) -> AsyncIterator[Ours]:
    """A node of ours as a program of its own, answering with the persona `talker`."""
    port, log = free_port(), ground.folder / "node.log"
    environ = {
        "NODE_NAME": NODE,
        "NODE_VAR": str(ground.folder / "var"),
        "NODE_DRAIN_SECONDS": "0",
        "DATABASE_URL": ground.database,
        "REDIS_URL": ground.cache,
        "TWILIO_API_URL": network.url,
        "CALLS_PERSONA": "talker",
        "CALLS_PER_HOST": str(per_host),
        "CALLS_MAX_HOSTS": str(hosts),
        "LOG_LEVEL": "warning",
        **({"SPEECH_LISTENER": "double", "SPEECH_VOICE": "double", "SPEECH_BRAIN": "scripted"} if doubles else {}),
        **{key.upper(): str(value) for key, value in settings.items()},
    }
    async with program(("main.py", "serve", "--port", str(port)), cores, log, environ) as process:
        entrance = ground.folder / "var" / "run" / NODE / "ops.sock"
        await answering(port, process, log)
        node = Ours(name, f"http://127.0.0.1:{port}/twilio/voice", entrance, ground, process)
        await _has_hosts(node, log)
        if endless:
            await ground.execute(ENDLESS)
        else:
            await ground.execute("drop trigger if exists bench_rounds on calls")
        yield node


async def _has_hosts(node: Ours, log: Path) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            processes = await node.processes()
            if {"gateway", "turns"} <= processes.keys() and any(key.startswith("host-") for key in processes):
                return
        await asyncio.sleep(0.2)
    raise BenchError(f"The node has no call host:\n{log.read_text(errors='replace')[-2000:]}")


@dataclass(frozen=True)
class Stock:
    """The stock Pipecat bot."""

    name: str
    voice_url: str
    process: psutil.Process
    session: aiohttp.ClientSession = field(repr=False)

    async def processes(self) -> dict[str, psutil.Process]:
        return {"host-1": self.process}

    async def decisions(self, since: float, until: float) -> list[float]:
        async with self.session.get(self.voice_url.replace("/voice", "/decisions")) as answer:
            told: list[tuple[float, float]] = await answer.json()
        return [ms for at, ms in told if since <= at <= until]


@contextlib.asynccontextmanager
async def stock(ground: Ground, network: Network, cores: set[int] = SERVER_CORE) -> AsyncIterator[Stock]:
    """The stock bot as a program of its own."""
    port, log = free_port(), ground.folder / "stock.log"
    async with program(("-m", "tests.bench.stock", "--port", str(port)), cores, log) as process:
        await answering(port, process, log)
        yield Stock("stock", f"http://127.0.0.1:{port}/voice", process, network.session)
