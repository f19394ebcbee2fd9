"""`main.py bench`: speed, memory and survival beside a baseline, with bars that are met or missed."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from infra.embedded.ground import EmbeddedError
from tests.bench import actors, api, calls, money, schedule, survive, turn
from tests.bench.figures import Bar
from tests.bench.harness import CORES, BenchError, say
from transports.cli.options import DONE, FAILED, MISSED, run
from transports.cli.options import say as print_line

EPILOG = """examples:
  main.py bench all --json bench.json       everything; about two hours on two quiet cores
  main.py bench calls --sides stock shared  only these two
  main.py bench turn --max 60               the turn at 1, 10 and 60 calls
  main.py bench survive --kills 100         kill hosts under live calls
  main.py bench api                         the ten main routes at 500 requests a second
  main.py bench money                       a million operations with money; a quarter of an hour
  main.py bench schedule                    10,000 booked calls, 3 nodes, 120 kills; then 200 a second
  main.py bench all --quick                 a smoke run of a few minutes; its figures prove nothing

Nothing else should run on the machine. The server under test has the first core, everything else the last.
exit codes: 0 every bar is met; 1 the benchmark could not run; 2 the command line is wrong; 3 a bar is missed or absent
"""
# The bars of each benchmark as they stand when it could not run.
ABSENT: dict[str, Callable[[], list[Bar]]] = {
    "calls": lambda: calls.bars({}),
    "turn": lambda: turn.bars({}),
    "survive": survive.bars,
    "actors": actors.bars,
    "api": api.bars,
    "money": money.bars,
    "schedule": schedule.bars,
}


def build_parser() -> argparse.ArgumentParser:
    """The switches."""
    parser = argparse.ArgumentParser(
        prog="main.py bench", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*ABSENT, "all"], help="which benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole report")
    parser.add_argument("--quick", action="store_true", help="a short smoke run; its figures are no results")
    parser.add_argument("--seconds", type=float, help="length of a window (default: 60, quick 15)")
    parser.add_argument("--runs", type=int, help="runs per level, of which the median counts (default: 3, quick 1)")
    parser.add_argument("--start", type=int, default=0, help="calls: first level tried (default: a guess per side)")
    parser.add_argument("--sides", nargs="+", choices=["stock", "shared", "private"], help="calls: only these")
    parser.add_argument("--max", type=int, default=0, help="turn: highest level (default: what `calls` found, else 40)")
    parser.add_argument("--kills", type=int, help="survive, schedule: how many (default: 100 and 120)")
    parser.add_argument("--calls", type=int, help="survive: calls held (default: 16, quick 6)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit code."""
    options = build_parser().parse_args(list(argv))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if options.quick:
        say("QUICK: a smoke run. Its figures are no results and belong in no document.")
    return run(bench(options))


async def bench(options: argparse.Namespace) -> int:
    """Run what was asked for, print the bars, write the report."""
    quick = options.quick
    plan = calls.Plan(options.seconds or (15.0 if quick else 60.0), options.runs or (1 if quick else 3), quick)
    report: dict[str, Any] = {"about": about(options, plan)}
    bars: list[Bar] = []
    failed = False
    most = options.max
    for name in ABSENT if options.what == "all" else (options.what,):
        say(f"bench {name}")
        try:
            if name == "calls":
                chosen = options.sides or ["stock", "shared", "private"]
                report[name], found, level = await calls.run_calls(plan, chosen, options.start)
                most = most or level
            elif name == "turn":
                report[name], found = await turn.run_turn(plan, most or (10 if quick else 40))
            elif name == "api":
                report[name], found = await api.run_api(plan.seconds, plan.runs)
            elif name == "money":
                report[name], found = await money.run_money(20_000 if quick else money.OPERATIONS)
            elif name == "schedule":
                much = (1000, 12) if quick else (schedule.CALLS, schedule.KILLS)
                report[name], found = await schedule.run_schedule(much[0], options.kills or much[1], plan.seconds)
            elif name == "survive":
                report[name], found = await survive.run_survive(ordeal(options))
            else:
                report[name], found = await actors.run_actors(2000 if quick else 20_000, plan.runs)
        except (BenchError, EmbeddedError, OSError) as error:
            say(f"bench {name} could not run: {error}")
            failed, found = True, ABSENT[name]()
        bars += found
    report["bars"] = [bar.told() for bar in bars]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
        say(f"wrote {options.json}")
    if quick:
        say("QUICK: the figures below are those of a smoke run.")
    for bar in bars:
        print_line(bar.line)
    return FAILED if failed else DONE if all(bar.met for bar in bars) else MISSED


def ordeal(options: argparse.Namespace) -> survive.Ordeal:
    """How much `survive` kills."""
    return survive.Ordeal(options.kills or (8 if options.quick else 100), options.calls or (6 if options.quick else 16))


def about(options: argparse.Namespace, plan: calls.Plan) -> dict[str, Any]:
    """What was run where, for whoever reads the report later."""
    models = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": options.what,
        "quick": plan.quick,
        "window_seconds": plan.seconds,
        "runs": plan.runs,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cores": len(CORES),
        "load_before": os.getloadavg()[0],
        "timezone": time.tzname[0],
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
