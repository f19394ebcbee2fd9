"""`main.py simulate`: the phone network in a box, which is a program of its own."""

from __future__ import annotations

from collections.abc import Sequence

from transports.simulator.cli import main as simulator


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    return simulator(argv)
