"""Hold a number of calls for a while, and say how the server did in that window. The same code measures both sides."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench.figures import (
    Histogram,
    counted,
    histogram_percentile,
    minus,
    pace,
    percentile,
    plus,
)
from tests.bench.harness import BenchError, Network, Server

RAMP_SECONDS = 0.25  # between two callers, so that they do not speak in step
SETTLE_SECONDS = 8.0  # after the last one was answered; every call has had its first turn by then
ANSWER_SECONDS = 30.0
CALLER = str(Path(__file__).with_name("caller.toml"))


@dataclass(frozen=True, slots=True)
class Window:
    """One run at one level."""

    calls: int
    seconds: float
    figures: dict[str, float]
    decisions: list[float]
    memory_mb: dict[str, float]
    cpu_share: dict[str, float]

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "calls": self.calls,
            "seconds": round(self.seconds, 1),
            **{name: round(value, 4) for name, value in self.figures.items()},
            "memory_mb": self.memory_mb,
            "cpu_share": self.cpu_share,
        }


async def hold_calls(network: Network, server: Server, calls: int, seconds: float, period_ms: float = 0.0) -> Window:
    """Have `calls` callers talk for `seconds`, everything settled before, and measure.

    `period_ms` is the time between two turns of an undisturbed call; 0 when it is not known yet.

    Raises:
        BenchError: not one call was answered.
    """
    sids = await ramp(network, server, calls)
    await asyncio.sleep(SETTLE_SECONDS)
    processes = await server.processes()
    before = await records(network, sids)
    began, cpu_before, network_before = time.time(), _cpu(processes), _spent(network.process)
    await asyncio.sleep(seconds)
    ended, cpu_after, network_after = time.time(), _cpu(processes), _spent(network.process)
    after = await records(network, sids)
    lag = await network.lag()
    decisions = await server.decisions(began, ended)
    memory = await asyncio.to_thread(private_memory, await server.processes())
    await network.reset()
    spent = ended - began
    turns = _turns(after, began, ended)
    cpu = {name: (cpu_after[name] - cpu_before[name]) / spent for name in cpu_before if name in cpu_after}
    hosts_mb = sum(mb for name, mb in memory.items() if name.startswith("host"))
    figures = _output(before, after) | {
        "decision_p95_ms": percentile(decisions, 0.95),
        "decisions": float(len(decisions)),
        "turns_per_minute": pace(turns, (began * 1000, ended * 1000), period_ms),
        "lost_calls": float(calls - sum(_held(record) for record in after)),
        "cpu_per_call": sum(cpu.values()) / calls,
        "cpu_total": sum(cpu.values()),
        "memory_per_call_mb": hosts_mb / calls,
        "network_lag_p99_ms": float(lag["p99"] or 0),
        "network_cpu": (network_after - network_before) / spent,
    }
    return Window(calls, spent, figures, decisions, _rounded(memory), _rounded(cpu))


async def ramp(network: Network, server: Server, calls: int, persona: str = CALLER) -> list[str]:
    """Dial one after the other; returns the call ids once all were answered or have had the time.

    Raises:
        BenchError: not one was answered.
    """
    sids: list[str] = []
    for _ in range(calls):
        sids += await network.dial(server.voice_url, persona)
        await asyncio.sleep(RAMP_SECONDS)
    deadline = time.monotonic() + ANSWER_SECONDS
    heard = 0
    while time.monotonic() < deadline and heard < calls:
        found = await records(network, sids)
        heard = sum(record["answer_to_first_sound_ms"] is not None for record in found)
        if heard < calls:
            await asyncio.sleep(0.5)
    if calls and not heard:
        raise BenchError("The server under test answers no call.")
    return sids


async def records(network: Network, sids: list[str]) -> list[dict[str, Any]]:
    """What the phone network measured of these calls."""
    wanted = set(sids)
    return [record for record in await network.calls() if record["sid"] in wanted]


def _held(record: dict[str, Any]) -> bool:
    """Whether the call is still what it should be: live, on its first stream, and heard."""
    return record["status"] == "in-progress" and not record["drops"] and record["answer_to_first_sound_ms"] is not None


def _turns(records: list[dict[str, Any]], began: float, ended: float) -> list[list[float]]:
    """Per call the moments (ms since 1970) within the window at which the bot answered a turn."""
    found: list[list[float]] = []
    for record in records:
        zero = record["epoch_ms"]
        moments = [
            zero + turn["end_ms"] + turn["voice_to_voice_ms"]
            for turn in record["turns"]
            if turn["voice_to_voice_ms"] is not None
        ]
        found.append([at for at in moments if began * 1000 <= at <= ended * 1000])
    return found


def _output(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, float]:
    """How the bot's audio came, over all calls, between two readings."""
    earlier = {record["sid"]: record["output"] for record in before}
    jitter, lateness, audio_ms, underrun_ms = [], [], 0.0, 0.0
    for record in after:
        now, then = record["output"], earlier.get(record["sid"])
        jitter.append(_since(now, then, "jitter_ms"))
        lateness.append(_since(now, then, "lateness_ms"))
        audio_ms += now["audio_ms"] - (then["audio_ms"] if then else 0)
        underrun_ms += now["underrun_ms"] - (then["underrun_ms"] if then else 0)
    spread, late = plus(jitter), plus(lateness)
    return {
        "jitter_p50_ms": histogram_percentile(spread, 0.5),
        "jitter_p99_ms": histogram_percentile(spread, 0.99),
        "lateness_p99_ms": histogram_percentile(late, 0.99),
        "underrun_share": underrun_ms / (audio_ms + underrun_ms) if audio_ms else 1.0,
        "bot_audio_s": audio_ms / 1000,
    }


def _since(now: dict[str, Any], then: dict[str, Any] | None, name: str) -> Histogram:
    return minus(counted(now[name]["histogram"]), counted(then[name]["histogram"]) if then else {})


def _spent(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _cpu(processes: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: _spent(process) for name, process in processes.items()}


def private_memory(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Unique set size in MB of each process: what its end would give back to the machine."""
    found: dict[str, float] = {}
    for name, process in processes.items():
        with contextlib.suppress(psutil.Error):
            found[name] = process.memory_full_info().uss / 1e6
    return found


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
