"""The command line: help for everything, exit codes that mean something, sentences instead of tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from main import COMMANDS
from tests.doubles.live_node import ROOT


def command(*words: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *words],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_help_names_every_command() -> None:
    """COM-60."""
    run = command("--help")
    assert run.returncode == 0
    assert all(name in run.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(name: str) -> None:
    """COM-60."""
    run = command(name, "--help")
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout


@pytest.mark.parametrize("words", [(), ("dance",), ("ops",), ("serve", "--port", "many"), ("ops", "hangup")])
def test_a_wrong_command_line_is_two(words: tuple[str, ...]) -> None:
    """COM-60: 2, and the usage."""
    run = command(*words)
    assert run.returncode == 2
    assert "usage:" in run.stderr


def test_settings_that_cannot_be_used_end_with_a_sentence(tmp_path: Path) -> None:
    """Issue: what to change, no traceback."""
    run = command("serve", cwd=tmp_path, NODE_PRT="1")
    assert run.returncode == 1
    assert "NODE_PORT" in run.stderr
    assert "Traceback" not in run.stderr


def test_ops_takes_its_options_before_and_after_the_act(tmp_path: Path) -> None:
    """COM-60: where people put them."""
    for words in (("--json", "--node", "n", "calls"), ("calls", "--json", "--node", "n")):
        run = command("ops", *words, cwd=tmp_path)
        assert run.returncode == 1, run.stderr
        assert "No node runs here" in run.stderr


def test_ops_without_a_node_says_how_to_start_one(tmp_path: Path) -> None:
    """COM-77."""
    run = command("ops", "calls", cwd=tmp_path)
    assert run.returncode == 1
    assert "main.py serve" in run.stderr


def test_a_node_that_does_not_answer_a_call_is_named(tmp_path: Path) -> None:
    """COM-60."""
    run = command("call", "+15551234567", "--node", "http://127.0.0.1:9", cwd=tmp_path)
    assert run.returncode == 1
    assert "--node" in run.stderr
    assert "Traceback" not in run.stderr


def test_production_with_stand_ins_does_not_start(tmp_path: Path) -> None:
    """Issue: before anything was started or written."""
    run = command("serve", cwd=tmp_path, ENVIRONMENT="production")
    assert run.returncode == 1
    assert "DEEPGRAM_API_KEY" in run.stderr
    assert not (tmp_path / "var").exists()
