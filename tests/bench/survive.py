"""`bench survive`: call hosts are killed under live calls, and every call must go on to its scripted end.

The engines are the keyless real ones: eSpeak NG and PocketSphinx speak and listen on both sides, the bot works through
numbered lines. A kill is SIGKILL of a host process with all its calls, aimed at every phase of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from actors.hosts import Hosts, ListHosts
from actors.runtime import ActorError
from actors.runtime.forked import connect
from tests.bench.figures import Bar, percentile, percentiles
from tests.bench.harness import EVERY_CORE, Ground, Network, Ours, ground, network, ours, say

LINE = re.compile(r"\bThis is line number (\d+) of (\d+)")
PHASES = ("before_first_turn", "bot_speaking", "caller_speaking", "between", "resuming")
CALL_SECONDS = 420.0
DIAL_GAP_SECONDS = 0.7
RETURN_SECONDS = (0.03, 0.25)
MATCH_MS = 1500.0


@dataclass(frozen=True, slots=True)
class Ordeal:
    """How much is killed."""

    kills: int = 100
    calls: int = 16
    per_host: int = 10
    gap_seconds: tuple[float, float] = (1.0, 9.0)


@dataclass
class Toll:
    """What was killed, when (ms since 1970), and how many calls it held."""

    kills: list[tuple[float, int]] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)


async def run_survive(ordeal: Ordeal) -> tuple[dict[str, Any], list[Bar]]:
    """Run the benchmark; its report and its bars."""
    chance = random.Random(7)
    async with ground(EVERY_CORE) as place, network(place.folder, EVERY_CORE) as phones:
        hosts = -(-ordeal.calls // ordeal.per_host) + 2
        keyless = ours(
            place,
            phones,
            hosts=hosts,
            per_host=ordeal.per_host,
            doubles=False,
            endless=False,
            cores=EVERY_CORE,
            calls_warm_hosts=2,
        )
        async with keyless as node:
            toll = Toll()
            await _kill_and_dial(node, phones, ordeal, toll, chance)
            say(f"  {len(toll.kills)} kills; waiting for the last calls to come to their end")
            await _wait_over(phones, toll.dialled)
            await asyncio.sleep(2.0)  # the last status callbacks
            found = {record["sid"]: record for record in await phones.calls() if record["sid"] in set(toll.dialled)}
            faults = await _faults(place, found)
    return _report(ordeal, toll, found, faults)


async def _kill_and_dial(node: Ours, phones: Network, ordeal: Ordeal, toll: Toll, chance: random.Random) -> None:
    """Keep the number of calls up and kill hosts until enough have died."""
    filling = asyncio.create_task(_keep_dialling(node, phones, ordeal, toll))
    try:
        while len(toll.kills) < ordeal.kills and not filling.done():
            await asyncio.sleep(_pause(len(toll.kills), ordeal, chance))
            busy = await _hosts(node)
            if sum(len(host["calls"]) for host in busy) < ordeal.calls // 2:
                continue
            victim = busy[0] if len(toll.kills) % 3 else chance.choice(busy)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim["pid"], signal.SIGKILL)
                toll.kills.append((time.time() * 1000, len(victim["calls"])))
            if len(toll.kills) % 10 == 0:
                say(f"  {len(toll.kills)} kills, {len(toll.dialled)} calls dialled")
    finally:
        filling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await filling


def _pause(kills: int, ordeal: Ordeal, chance: random.Random) -> float:
    """Seconds to the next kill; every fourth falls into the return from the one before, which takes a moment."""
    return chance.uniform(*RETURN_SECONDS) if kills % 4 == 3 else chance.uniform(*ordeal.gap_seconds)


async def _keep_dialling(node: Ours, phones: Network, ordeal: Ordeal, toll: Toll) -> None:
    while True:
        if len(await phones.calls(live=True)) < ordeal.calls:
            toll.dialled += await phones.dial(node.voice_url, "talker")
        await asyncio.sleep(DIAL_GAP_SECONDS)


async def _hosts(node: Ours) -> list[dict[str, Any]]:
    """Hosts with calls, the fullest first."""
    with contextlib.suppress(ActorError):
        async with await connect(node.entrance, timeout=2.0) as system:
            told = await system.ref("hosts").ask(ListHosts(), timeout=2.0, expect=Hosts)
        return sorted((h for h in told.hosts if h["calls"] and h["pid"]), key=lambda h: -len(h["calls"]))
    return []


async def _wait_over(phones: Network, sids: Sequence[str]) -> None:
    deadline = time.monotonic() + CALL_SECONDS
    wanted = set(sids)
    while time.monotonic() < deadline:
        if not any(record["sid"] in wanted for record in await phones.calls(live=True)):
            return
        await asyncio.sleep(1.0)


async def _faults(place: Ground, found: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """By call: what is wrong with how it went on, from the database and the phone network."""
    calls = {row["carrier_sid"]: row for row in await place.fetch("select * from calls")}
    rows = await place.fetch("select * from call_turns order by call_id, number")
    faults: dict[str, list[str]] = {}
    for sid, record in found.items():
        call = calls.get(sid)
        wrong = [] if call else ["the server has no such call"]
        if call:
            end = (call["state"], call["ended_reason"])
            wrong += [] if end == ("completed", "bot_hung_up") else [f"ended as {end[0]}, {end[1]}"]
            turns = [dict(row) for row in rows if row["call_id"] == call["id"]]
            wrong += continuity(turns)
        if record["status"] != "completed":
            wrong.append(f"the phone network calls it {record['status']}")
        if wrong:
            faults[sid] = wrong
    return faults


def continuity(turns: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with a call's turns: every numbered line stands once, in order, with the caller between."""
    wrong: list[str] = []
    if [turn["number"] for turn in turns] != list(range(1, len(turns) + 1)):
        wrong.append("turn numbers have gaps")
    said = [(at, LINE.search(turn["text"])) for at, turn in enumerate(turns) if turn["who"] == "bot"]
    lines = [(at, int(found[1]), int(found[2])) for at, found in said if found]
    if not lines:
        return [*wrong, "no numbered line was said"]
    numbers, total = [number for _, number, _ in lines], lines[0][2]
    times = Counter(numbers)
    wrong += [f"line {number} is missing" for number in range(1, total + 1) if not times[number]]
    wrong += [f"line {number} was said {n} times" for number, n in times.items() if n > 1]
    if numbers != sorted(numbers):
        wrong.append("lines are out of order")
    for (one, number, _), (two, _, _) in pairwise(lines):
        if not any(turn["who"] == "caller" for turn in turns[one + 1 : two]):
            wrong.append(f"nothing of the caller stands after line {number}")
    for at, found in said:
        if found and not turns[at]["done"]:
            wrong.append(f"line {found[1]} was never finished")
    return wrong


@dataclass(frozen=True, slots=True)
class Hit:
    """One kill as one call met it. `resume_ms` is None if the next kill came before the bot was heard again."""

    phase: str
    resume_ms: float | None


def hits(record: dict[str, Any], kills: Sequence[float]) -> list[Hit]:
    """The drops of a call that kills explain, each with its phase and the time to the first new sound of the bot."""
    found: list[Hit] = []
    drops = record["drops"]
    for position, drop in enumerate(drops):
        before = [kill for kill in kills if -MATCH_MS <= kill - drop["at_epoch_ms"] <= 50.0]
        if not before:
            continue
        heard_ms = drop["at_ms"] + drop["sound_after_ms"] if drop["sound_after_ms"] is not None else None
        after = drops[position + 1]["at_ms"] if position + 1 < len(drops) else None
        superseded = heard_ms is None or (after is not None and after < heard_ms)
        resume = None if superseded or heard_ms is None else record["epoch_ms"] + heard_ms - before[-1]
        found.append(Hit(phase_of(record, drop["at_ms"], drops[:position]), resume))
    return found


def phase_of(record: dict[str, Any], at_ms: float, earlier: Sequence[dict[str, Any]]) -> str:
    """What the call was doing when its line dropped."""
    for drop in earlier:
        heard = drop["sound_after_ms"]
        if drop["at_ms"] <= at_ms and (heard is None or drop["at_ms"] + heard > at_ms):
            return "resuming"
    if not any(
        said["end_ms"] is not None and said["end_ms"] <= at_ms and not said["cut"] for said in record["utterances"]
    ):
        return "before_first_turn"
    for name, pieces in (("caller_speaking", record["utterances"]), ("bot_speaking", record["bot_spurts"])):
        if any(one["start_ms"] < at_ms and (one["end_ms"] is None or one["end_ms"] >= at_ms - 30) for one in pieces):
            return name
    return "between"


def _report(
    ordeal: Ordeal, toll: Toll, found: dict[str, dict[str, Any]], faults: dict[str, list[str]]
) -> tuple[dict[str, Any], list[Bar]]:
    kills = [at for at, _ in toll.kills]
    met = [hit for record in found.values() for hit in hits(record, kills)]
    resumes = [hit.resume_ms for hit in met if hit.resume_ms is not None]
    unheard = sum(hit.resume_ms is None for hit in met)
    phases = Counter(hit.phase for hit in met)
    by_phase = {
        name: percentiles([h.resume_ms for h in met if h.phase == name and h.resume_ms is not None]) for name in PHASES
    }
    for name in PHASES:
        p50, p95 = by_phase[name]["p50"], by_phase[name]["p95"]
        say(f"  {name}: {phases[name]} calls hit, resume p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    for sid, wrong in faults.items():
        say(f"  {sid}: {'; '.join(wrong)}")
    sound = len(found) - len(faults)
    most = max((n for _, n in toll.kills), default=0)
    say(f"  {len(kills)} kills, at most {most} calls at once, {len(met)} calls hit")
    say(f"  {sound} of {len(found)} calls came to their end whole")
    enough = len(kills) >= ordeal.kills
    told = {
        "kills": len(kills),
        "calls": len(found),
        "calls_hit": len(met),
        "calls_at_once": [n for _, n in toll.kills],
        "resume_ms": percentiles(resumes),
        "resume_ms_by_phase": by_phase,
        "phases": dict(phases),
        "hit_again_before_sound": unheard,
        "faults": faults,
        "resumes_ms": sorted(round(ms, 1) for ms in resumes),
    }
    whole = sound / len(found) if found and enough else None
    return told, bars(whole, percentile(resumes, 0.95) if resumes else None)


def bars(whole: float | None = None, resume_p95_ms: float | None = None) -> list[Bar]:
    """The two bars; absent without figures."""
    return [
        Bar("continuity", whole, 1.0, "at least", " of all calls"),
        Bar("resume", resume_p95_ms, 1500.0, "at most", " ms"),
    ]
