"""Ringdown's command line. Run `python main.py --help`, or `python main.py COMMAND --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "serve": ("transports.cli.serve", "run a node until it is told to stop"),
    "demo": ("transports.cli.demo", "take a simulated call, show it, and stay up with a page; needs no key"),
    "call": ("transports.cli.call", "place a call through a running node"),
    "simulate": (
        "transports.cli.simulate",
        "the phone network in a box: serve it, or test a voice bot with it",
    ),
    "ops": ("transports.cli.ops", "look after running nodes: calls, tree, hosts, hangup, drain"),
    "bench": ("tests.bench.cli", "measure speed and memory beside a baseline, with bars"),
    "migrate": ("transports.cli.migrate", "bring the database to this version, or back"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the command; returns its exit code.

    Exit codes: 0 done; 1 it failed, the message says why; 2 the command line is wrong; 3 a bar or a check was missed.
    """
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Ringdown: phone calls that survive the death of their process.",
        epilog="Start with: python main.py demo",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    words = list(sys.argv[1:] if argv is None else argv)
    chosen, rest = parser.parse_known_args(words[:1])[0].command, words[1:]
    code: int = import_module(COMMANDS[chosen][0]).main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
