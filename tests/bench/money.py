"""`bench money`: a million operations with money in a world of bad luck; no cent is off, nothing is taken twice.

Each worker is a process with a database of its own. It holds, settles, releases and refunds, several tasks at a time,
against a processor in memory whose answers get lost, come late or are errors, and it dies at statements and requests;
webhooks come three times and in any order. After every so many operations luck is good, everything must come to its
end, and books, holds and processor must say the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import structlog
import uvloop

from infra.database import migrate
from infra.database.pool import pool
from infra.embedded.holding import hold
from infra.embedded.postgres import DATABASE, Postgres
from tests.bench.figures import Bar
from tests.bench.harness import CORES, EVERY_CORE, ROOT, BenchError, pinned, say
from tests.doubles.money_world import World

OPERATIONS = 1_000_000
SEGMENT = 20_000  # operations between two times of good luck
TASKS = 6
WORKERS = max(2, len(CORES))
SILENT_SECONDS = 300.0


def bars(operations: int | None = None, imbalance: int | None = None, double: int | None = None) -> list[Bar]:
    """The promises; without figures, as they stand when nothing ran."""
    return [
        Bar("money_imbalance", imbalance, 0, unit=" micro-dollars"),
        Bar("money_double_capture", double, 0),
        Bar("money_operations", operations, OPERATIONS, "at least"),
    ]


async def run_money(operations: int = OPERATIONS) -> tuple[dict[str, Any], list[Bar]]:
    """Run the workers side by side; what they did, and the bars.

    Raises:
        BenchError: a worker ended before its time.
    """
    started = time.monotonic()
    each = -(-operations // WORKERS)
    with tempfile.TemporaryDirectory(prefix="rdmoney-", ignore_cleanup_errors=True) as name:
        async with hold(Postgres(Path(name) / "postgres")) as holding:
            told = await asyncio.gather(*(_worker(holding.url, number, each) for number in range(WORKERS)))
    seconds = time.monotonic() - started
    done: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for one in told:
        done.update(one["done"])
        errors.update(one["errors"])
    wrong = [sentence for one in told for sentence in one["wrong"]]
    report = {
        "operations": done.total(),
        "done": dict(done),
        "errors": dict(errors),
        "wrong": wrong[:50],
        "seconds": round(seconds, 1),
        "workers": WORKERS,
    }
    say(f"  {done.total():,} operations in {seconds:.0f} s: {dict(done.most_common())}")
    say(f"  met on the way: {dict(errors.most_common())}")
    imbalance = sum(one["imbalance"] for one in told) + len(wrong)
    return report, bars(done.total(), imbalance, sum(one["double"] for one in told))


async def _worker(url: str, number: int, operations: int) -> dict[str, Any]:
    """One worker's last word; its progress is told on the way."""
    database = f"money_{number}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"create database {database}")
        await connection.execute(f"alter database {database} set synchronous_commit = off")
    finally:
        await connection.close()
    mine = url.replace(f"@/{DATABASE}?", f"@/{database}?")
    await migrate.up(mine)
    arguments = ("-m", "tests.bench.money", "--url", mine, "--operations", str(operations), "--seed", str(number))
    with pinned(EVERY_CORE):
        child = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
    assert child.stdout is not None
    last: dict[str, Any] = {}
    try:
        while line := await asyncio.wait_for(child.stdout.readline(), SILENT_SECONDS):
            before, last = last.get("wrong", []), json.loads(line)
            say(f"  worker {number}: {last['operations']:,} of {operations:,} operations, {len(last['wrong'])} wrong")
            for sentence in last["wrong"][len(before) :]:
                say(f"  WRONG: {sentence}")
    except TimeoutError as error:
        raise BenchError(f"Worker {number} of the benchmark says nothing any more.") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    if not last.get("over"):
        raise BenchError(f"Worker {number} of the benchmark ended before its time.")
    return last


async def work(url: str, operations: int, seed: int) -> None:
    """Be a worker: one world after the other, a line of progress for each."""
    done: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    wrong: list[str] = []
    imbalance = double = segment = 0
    async with pool(url, min_size=TASKS, max_size=TASKS + 2) as connections:
        while done.total() < operations:
            segment += 1
            world = World(connections, users=20, window=60)
            await world.open()
            goal = min(SEGMENT, operations - done.total())
            await asyncio.gather(*(_live(world, f"{seed}-{segment}-{task}", goal) for task in range(TASKS)))
            wrong += await world.finish()
            imbalance += await world.imbalance()
            double += len(world.model.double_captures())
            done.update(world.done)
            errors.update(world.errors)
            told = {
                "operations": done.total(),
                "done": dict(done),
                "errors": dict(errors),
                "wrong": wrong,
                "imbalance": imbalance,
                "double": double,
                "over": done.total() >= operations,
            }
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


async def _live(world: World, seed: str, goal: int) -> None:
    order = random.Random(seed)
    while world.operations < goal:
        await world.step(order)


def main() -> None:
    """Be a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    uvloop.run(work(options.url, options.operations, options.seed))


if __name__ == "__main__":
    main()
