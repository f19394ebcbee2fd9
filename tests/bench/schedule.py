"""`bench schedule`: booked calls over three nodes that are killed while a carrier fails, and how late dials are.

Twice the same: calls that fall due at a steady rate, three node processes that claim and dial them through the
product's own scheduler and carrier adapter, one PostgreSQL, and an exchange that speaks Twilio's REST API. First the
nodes are killed (`kill -9`) again and again while the exchange loses answers and fails; every call must have been
dialled exactly once. Then nothing fails, and the time from due to the request's arrival at the exchange is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from infra.database import migrate
from infra.database.pool import pool
from infra.database.schedule_records import Booked
from infra.database.schedules import ScheduleStore
from infra.ids import new_id
from tests.bench.figures import Bar, percentiles
from tests.bench.harness import EVERY_CORE, ROOT, BenchError, Ground, answering, free_port, ground, program, say

NODES = ("n1", "n2", "n3")
LATENESS_MS = 100.0
RATE = 200
CALLS, KILLS = 10_000, 110
KILL_EVERY_S = 2.0  # on average, over the three nodes: each lives for six seconds
LEAD_S = 20.0  # from the booking to the first call
CHUNK = 1000
PATIENCE_S = 60.0  # without any progress, once the last call was due


@dataclass(frozen=True, slots=True)
class Trial:
    """How much is dialled, and what goes wrong meanwhile."""

    calls: int
    rate: float
    kills: int = 0
    lost: float = 0.0
    errors: float = 0.0
    lag: float = 0.0
    lease_s: float = 3.0

    @property
    def seconds(self) -> float:
        """From the first due time to the last."""
        return self.calls / self.rate


@dataclass(frozen=True, slots=True)
class Result:
    """What the exchange saw, beside what was booked."""

    calls: int
    duplicate: int
    lost: int
    late_ms: list[float]
    kills: int
    faults: dict[str, int]
    rows: dict[str, int]
    reconciled: int
    extra: dict[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """For the report."""
        late = percentiles(self.late_ms)
        return {
            "calls": self.calls,
            "dials_duplicate": self.duplicate,
            "dials_lost": self.lost,
            "kills": self.kills,
            "faults": self.faults,
            "rows": self.rows,
            "reconciled": self.reconciled,
            "lateness_ms": {**late, "min": round(min(self.late_ms, default=0.0), 3)},
            **self.extra,
        }


def bars(faulty: Result | None = None, calm: Result | None = None) -> list[Bar]:
    """The promises of COM-21."""
    late = None if calm is None else percentiles(calm.late_ms)["p99"]
    return [
        Bar("dials_duplicate", None if faulty is None else faulty.duplicate, 0),
        Bar("dials_lost", None if faulty is None else faulty.lost, 0),
        Bar("lateness_p99", late, LATENESS_MS, unit=" ms"),
    ]


async def run_schedule(calls: int, kills: int, calm_seconds: float) -> tuple[dict[str, Any], list[Bar]]:
    """Both halves; the report and the bars."""
    rate = min(RATE, calls / max(1.0, kills * KILL_EVERY_S))
    faulty = await trial(Trial(calls, rate, kills, 0.05, 0.05, lag=0.2))
    say(f"with {faulty.kills} kills: {faulty.told()}")
    calm = await trial(Trial(round(RATE * calm_seconds), RATE, lease_s=30.0))
    say(f"without: {calm.told()}")
    return {"faulty": faulty.told(), "calm": calm.told()}, bars(faulty, calm)


async def trial(one: Trial, seed: int = 1) -> Result:
    """Book, dial, kill, and count."""
    async with ground(EVERY_CORE) as base:
        await migrate.up(base.database)
        async with exchange(base, one, seed) as url, Nodes(base, url, one) as nodes:
            first = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=LEAD_S)
            due = await book(base.database, one, first)
            for name in NODES:
                await nodes.start(name)
            await asyncio.gather(kill(nodes, one, first, seed), wait_dialed(base, one, first))
            dials, faults = await read_dials(url)
            rows = {r["state"]: r["n"] for r in await base.fetch(
                "select state, count(*) as n from scheduled_calls group by state")}  # fmt: skip
            found = await base.fetch("select count(*) as n from scheduled_attempts where reconciled")
            return result(due, dials, faults, nodes.kills, rows, found[0]["n"])


def result(
    due: dict[str, float],
    dials: dict[str, list[float]],
    faults: dict[str, int],
    kills: int,
    rows: dict[str, int],
    reconciled: int,
) -> Result:
    """What was booked compared with what was dialled."""
    return Result(
        calls=len(due),
        duplicate=sum(len(at) - 1 for at in dials.values()) + len(dials.keys() - due.keys()),
        lost=len(due.keys() - dials.keys()),
        late_ms=[(min(at) - due[to]) * 1000 for to, at in dials.items() if to in due],
        kills=kills,
        faults=faults,
        rows=rows,
        reconciled=reconciled,
    )


async def book(database: str, one: Trial, first: dt.datetime) -> dict[str, float]:
    """Book the calls; when each number is due, in seconds since 1970. Each goes to a number of its own."""
    owner = new_id("user")
    due: dict[str, float] = {}
    async with pool(database) as connections:
        await connections.execute("insert into users (id, email) values ($1, 'bench@example.com')", owner)
        store = ScheduleStore(connections)
        rows: list[Booked] = []
        for place in range(one.calls):
            number = f"+1555{place:07d}"
            at = first + dt.timedelta(seconds=place / one.rate)
            due[number] = at.timestamp()
            rows.append(booked(number, at))
        for start in range(0, len(rows), CHUNK):
            await store.insert(owner, rows[start : start + CHUNK])
    return due


def booked(number: str, at: dt.datetime) -> Booked:
    """A call to this number, which stands where its id would."""
    local = at.replace(tzinfo=None)
    return Booked(
        id=new_id("scheduled"),
        state="pending",
        persona_id="persona",
        number_id=number,
        max_minutes=1,
        outside_hours=True,
        zone="UTC",
        anchor=local,
        local_time=local,
        due_at=at,
    )


@contextlib.asynccontextmanager
async def exchange(base: Ground, one: Trial, seed: int) -> AsyncIterator[str]:
    """The carrier's double as a program of its own."""
    port, log = free_port(), base.folder / "exchange.log"
    shares = ("--lost", str(one.lost), "--errors", str(one.errors), "--lag", str(one.lag), "--seed", str(seed))
    async with program(("-m", "tests.doubles.exchange", "--port", str(port), *shares), EVERY_CORE, log) as process:
        await answering(port, process, log)
        yield f"http://127.0.0.1:{port}"


class Nodes:
    """Three schedulers, each a process forked from one that has everything loaded."""

    def __init__(self, base: Ground, exchange_url: str, one: Trial) -> None:
        self._arguments = (
            "-m", "tests.doubles.schedule_node", "--database", base.database, "--exchange", exchange_url,
            "--lease", str(one.lease_s), "--timeout", str(one.lease_s / 4), "--settle", str(one.lag + 0.3),
        )  # fmt: skip
        self._log = base.folder / "nodes.log"
        self.alive: dict[str, int] = {}
        self.kills = 0

    async def __aenter__(self) -> Nodes:
        output = self._log.open("wb")
        self._launcher = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )  # fmt: skip
        output.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._launcher.stdin is not None
        self._launcher.stdin.close()
        try:
            await asyncio.wait_for(self._launcher.wait(), 10)
        except TimeoutError:
            self._launcher.kill()
            await self._launcher.wait()

    async def start(self, name: str) -> None:
        """Fork a node of this name."""
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(f"{name}\n".encode())
        await self._launcher.stdin.drain()
        async with asyncio.timeout(30):
            line = await self._launcher.stdout.readline()
        if not line:
            raise BenchError(f"No node could be started:\n{self._log.read_text(errors='replace')[-2000:]}")
        self.alive[name] = json.loads(line)["pid"]

    async def kill(self, name: str) -> None:
        """Kill a node, and start it again."""
        os.kill(self.alive.pop(name), signal.SIGKILL)
        self.kills += 1
        await self.start(name)


async def kill(nodes: Nodes, one: Trial, first: dt.datetime, seed: int) -> None:
    """Kill nodes at random moments while calls are due."""
    if not one.kills:
        return
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0, one.seconds) for _ in range(one.kills))
    for moment in moments:
        await asyncio.sleep(max(0.0, moment - _since(first)))
        await nodes.kill(chance.choice(sorted(nodes.alive)))


async def wait_dialed(base: Ground, one: Trial, first: dt.datetime) -> None:
    """Wait until no call is left to be dialled, or nothing happens any more."""
    await asyncio.sleep(max(0.0, one.seconds - _since(first)))
    fewest, patient_until = one.calls + 1, 0.0
    while True:
        rows = await base.fetch("select count(*) as n from scheduled_calls where state <> 'dialed'")
        left = rows[0]["n"]
        if left < fewest:
            fewest, patient_until = left, _since(first) + PATIENCE_S
        if not left or _since(first) > patient_until:
            return
        await asyncio.sleep(0.5)


async def read_dials(url: str) -> tuple[dict[str, list[float]], dict[str, int]]:
    """When each number was dialled, as the exchange has it, and how often it failed."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/dials") as answer:
        told = await answer.json()
    return told["dials"], told["faults"]


def _since(first: dt.datetime) -> float:
    return (dt.datetime.now(dt.UTC) - first).total_seconds()
