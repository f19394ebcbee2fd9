"""`bench turn`: the server's own share of the time between two voices, with engines that take none.

Decision and own share come from the journal (`call_turns.timings`), barge-in and first sound from the phone network,
which hears what a caller would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tests.bench.calls import Plan
from tests.bench.figures import Bar, Spread, percentile, percentiles
from tests.bench.harness import Ground, Network, Ours, ground, network, ours, say
from tests.bench.load import SETTLE_SECONDS, hold_calls, ramp, records

BAR_CALLS = 10
SHARED = 10
FIRST_SOUNDS = 40
NAMES = ("decision", "own_share", "barge_in", "first_sound")
# Both are timed from the end of the caller's voice: the reply's first sound and the decision before it.
OWN_SHARE = """
select (bot.timings->>'voice_to_voice_ms')::float8 - (caller.timings->>'voice_end_to_decision_ms')::float8 as ms
from call_turns bot join call_turns caller on caller.call_id = bot.call_id and caller.number = bot.number - 1
where bot.who = 'bot' and caller.who = 'caller' and bot.timings ? 'voice_to_voice_ms'
  and caller.timings ? 'voice_end_to_decision_ms' and bot.at between to_timestamp($1) and to_timestamp($2)
"""

Samples = dict[str, list[float]]


async def run_turn(plan: Plan, most: int) -> tuple[dict[str, Any], list[Bar]]:
    """Run the benchmark at one call, at ten and at `most`; its report and its bars."""
    told: dict[str, Any] = {}
    at_bar: dict[str, list[float]] = {name: [] for name in NAMES}
    async with ground() as place:
        for level in sorted({1, BAR_CALLS, most} - {0}):
            found = [await _level(place, level, plan) for _ in range(plan.runs)]
            told[str(level)] = [{name: percentiles(values) for name, values in run.items()} for run in found]
            for name in NAMES if level == BAR_CALLS else ():
                at_bar[name] = [percentile(run[name], 0.95) for run in found]
            for name in NAMES:
                p95 = Spread(tuple(percentile(run[name], 0.95) for run in found))
                p50 = Spread(tuple(percentile(run[name], 0.5) for run in found))
                samples = sum(len(run[name]) for run in found)
                say(f"  {level:3d} calls: {name} p50 {p50} ms, p95 {p95} ms, {samples} samples")
    return told, bars({name: Spread(tuple(values)).median for name, values in at_bar.items()})


async def _level(place: Ground, level: int, plan: Plan) -> Samples:
    """All phases at one level, on a node and a phone network of their own."""
    hosts = -(-level // SHARED) + 1
    async with network(place.folder) as phones, ours(place, phones, hosts=hosts, per_host=SHARED) as node:
        began = time.time()
        window = await hold_calls(phones, node, level, plan.seconds)
        own = await place.fetch(OWN_SHARE, began + SETTLE_SECONDS, time.time())
        sounds = await _first_sounds(phones, node, level, FIRST_SOUNDS if not plan.quick else 10)
        barge_ins, unprovoked = await _barge_ins(phones, node, level, plan.seconds)
        return {
            "decision": window.decisions,
            "own_share": [row["ms"] for row in own],
            "first_sound": sounds,
            "barge_in": barge_ins,
            "false_starts_per_call_minute": unprovoked,
        }


async def _first_sounds(phones: Network, node: Ours, level: int, samples: int) -> list[float]:
    """Answer to first sound of callers who come one by one while the other calls of the level talk."""
    await ramp(phones, node, level - 1)
    asked: list[str] = []
    while len(asked) < samples:
        asked += await phones.dial(node.voice_url, "impatient")
        await asyncio.sleep(2.2)  # they hang up after a second and a half
    found = [record["answer_to_first_sound_ms"] for record in await records(phones, asked)]
    await phones.reset()
    return [ms for ms in found if ms is not None]


async def _barge_ins(phones: Network, node: Ours, level: int, seconds: float) -> tuple[list[float], list[float]]:
    """Onset to `clear` of callers who interrupt; then how often noise alone breaks off the bot."""
    sids = await ramp(phones, node, level, "interrupter")
    await asyncio.sleep(seconds)
    found = await records(phones, sids)
    clears = [each["clear_after_ms"] for record in found for each in record["barge_ins"]]
    await phones.reset()
    sids = await ramp(phones, node, level, "noisy")
    await asyncio.sleep(seconds)
    unprovoked = [float(breaks(record)) * 60 / seconds for record in await records(phones, sids)]
    await phones.reset()
    return [ms for ms in clears if ms is not None], unprovoked


def breaks(record: dict[str, Any]) -> int:
    """How often the bot broke off and went on though the caller had said nothing in between."""
    begun: Sequence[dict[str, Any]] = record["bot_spurts"]
    spoke = [said["start_ms"] for said in record["utterances"]]
    return sum(not any(one["start_ms"] <= at <= two["start_ms"] for at in spoke) for one, two in pairwise(begun))


def bars(p95: dict[str, float]) -> list[Bar]:
    """The four bars, by the p95 at ten calls."""
    limits = {"decision": 150.0, "own_share": 60.0, "barge_in": 200.0, "first_sound": 150.0}
    return [Bar(name, p95.get(name), limit, "at most", " ms") for name, limit in limits.items()]
