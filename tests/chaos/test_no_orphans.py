"""No process outlives the supervisor that started it, whatever is killed, stopped or spinning at that time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.runtime.forked import connect
from tests.doubles.processes import Block, ProcessFacts, Who

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).resolve().parents[2]
MARK = "RUNTIME_TEST_MARK"


class Victim:
    """A supervisor program and all that it started, found by a mark in the environment that they inherit."""

    def __init__(self, socket_path: Path) -> None:
        self.path = socket_path
        self.mark = uuid.uuid4().hex
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.supervisor", str(socket_path)],
            cwd=ROOT,
            env={**os.environ, MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def wait_up(self) -> dict[str, int]:
        """The process numbers by name, once everything runs."""
        assert self.program.stdout is not None
        for line in self.program.stdout:
            if line.startswith("{"):
                found: dict[str, int] = json.loads(line)
                return found
        raise AssertionError("the supervisor ended before it was up")

    def living(self) -> set[int]:
        """Every process that bears the mark."""
        needle = f"{MARK}={self.mark}".encode()
        found = set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if needle in (folder / "environ").read_bytes():
                        found.add(int(folder.name))
        return found

    def wait_nothing_left(self, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while left := self.living():
            assert time.monotonic() < end, {pid: _describe(pid) for pid in left}
            time.sleep(0.02)

    def clean(self) -> None:
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.program.kill()
        self.program.wait()
        assert self.program.stdout is not None
        self.program.stdout.close()


def _describe(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "gone meanwhile"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    made = Victim(tmp_path / "node.sock")
    yield made
    made.clean()


async def test_the_death_of_the_supervisor_ends_all_its_processes(victim: Victim) -> None:
    numbers = victim.wait_up()
    assert set(numbers.values()) <= victim.living()
    victim.program.kill()
    victim.wait_nothing_left()


@pytest.mark.parametrize("name", ["forked", "execed", "litter", "program", "template"])
async def test_the_death_of_the_supervisor_ends_a_stopped_process_too(victim: Victim, name: str) -> None:
    numbers = victim.wait_up()
    os.kill(numbers[name], signal.SIGSTOP)
    victim.program.kill()
    victim.wait_nothing_left()


async def test_the_death_of_the_supervisor_ends_stopped_processes_all_at_once(victim: Victim) -> None:
    numbers = victim.wait_up()
    for pid in numbers.values():
        os.kill(pid, signal.SIGSTOP)
    victim.program.kill()
    victim.wait_nothing_left()


@pytest.mark.parametrize("name", ["forked", "execed"])
async def test_the_death_of_the_supervisor_ends_a_spinning_process_too(victim: Victim, name: str) -> None:
    victim.wait_up()
    async with await connect(victim.path) as remote:
        await remote.ref(f"parrot-{name}").tell(Block(600))
    victim.program.kill()
    victim.wait_nothing_left()


async def test_a_template_killed_before_the_supervisor_leaves_no_orphan(victim: Victim) -> None:
    numbers = victim.wait_up()
    os.kill(numbers["template"], signal.SIGKILL)
    victim.program.kill()
    victim.wait_nothing_left()


@pytest.mark.parametrize("round_", range(6))
async def test_a_supervisor_killed_while_it_starts_leaves_no_orphan(victim: Victim, round_: int) -> None:
    await asyncio.sleep(random.Random(round_).uniform(0.2, 1.2))
    victim.program.kill()
    victim.wait_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_everything_in_order(victim: Victim, number: signal.Signals) -> None:
    victim.wait_up()
    victim.program.send_signal(number)
    assert victim.program.wait(timeout=20) == 0
    victim.wait_nothing_left()
    assert not victim.path.exists()


async def test_a_signal_stops_everything_although_a_process_is_stuck(victim: Victim) -> None:
    numbers = victim.wait_up()
    os.kill(numbers["execed"], signal.SIGSTOP)
    async with await connect(victim.path) as remote:
        await remote.ref("parrot-forked").tell(Block(600))
    victim.program.send_signal(signal.SIGTERM)
    assert victim.program.wait(timeout=20) == 0
    victim.wait_nothing_left()


async def test_a_storm_of_kills_leaves_a_whole_node_and_afterwards_nothing(victim: Victim) -> None:
    victim.wait_up()
    rng = random.Random(11)
    async with await connect(victim.path) as remote:
        for _ in range(25):
            spared = {victim.program.pid}
            targets = sorted(victim.living() - spared)
            if targets:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(targets), rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            await asyncio.sleep(rng.uniform(0.0, 0.1))
        for name in ("forked", "execed", "other"):
            async with asyncio.timeout(40):
                while True:
                    with contextlib.suppress(Exception):
                        ref = remote.ref(f"parrot-{name}")
                        facts = await ref.ask(Who(), timeout=1.0, expect=ProcessFacts)
                        break
                    await asyncio.sleep(0.05)
            assert facts.pid in victim.living()
    victim.program.kill()
    victim.wait_nothing_left()
