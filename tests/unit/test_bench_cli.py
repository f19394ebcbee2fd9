"""The command line of the benchmarks: every bar is told, and a missed or absent one shows in the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.bench import actors, cli
from tests.bench.figures import Bar
from tests.bench.harness import BenchError

BARS = {
    "calls": ["density_shared", "density_private", "memory_shared", "memory_private"],
    "turn": ["decision", "own_share", "barge_in", "first_sound"],
    "survive": ["continuity", "resume"],
    "schedule": ["dials_duplicate", "dials_lost", "lateness_p99"],
    "actors": ["ask_overhead"],
    "api": ["api_p95", "api_call_lateness"],
    "money": ["money_imbalance", "money_double_capture", "money_operations"],
}


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """The command silences the logs of its own process; here it is a guest in another."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def result(ratio: float | None) -> Callable[..., Any]:
    async def run_actors(asks: int, runs: int) -> tuple[dict[str, Any], list[Bar]]:
        if ratio is None:
            raise BenchError("no process could be started")
        return {"asks": asks, "runs": runs}, actors.bars(ratio)

    return run_actors


@pytest.mark.parametrize("name", BARS)
def test_every_bar_of_a_benchmark_is_told_even_when_it_could_not_run(name: str) -> None:
    assert [bar.name for bar in cli.ABSENT[name]()] == BARS[name]
    assert not any(bar.met for bar in cli.ABSENT[name]())


@pytest.mark.parametrize(
    ("ratio", "code", "line"),
    [
        (2.0, 0, "bar ask_overhead: met 2 times bare (at most 3 times bare)"),
        (4.0, 3, "bar ask_overhead: missed 4 times bare (at most 3 times bare)"),
        (None, 1, "bar ask_overhead: missed absent (at most 3 times bare)"),
    ],
)
def test_the_exit_code_says_whether_a_bar_was_missed(
    ratio: float | None,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(actors, "run_actors", result(ratio))
    assert cli.main(["actors"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_a_quick_run_says_that_its_figures_are_no_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(actors, "run_actors", result(2.0))
    cli.main(["actors", "--quick", "--json", str(tmp_path / "report.json")])
    assert "QUICK" in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["about"]["quick"] is True
    assert report["bars"] == [
        {"name": "ask_overhead", "met": True, "figure": 2.0, "limit": 3.0, "sense": "at most"},
    ]
