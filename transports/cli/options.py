"""What the commands share: settings from the command line, and failing with a sentence."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from infra.settings import Settings, SettingsError, load

DONE, FAILED, WRONG, MISSED = 0, 1, 2, 3


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A command's parser, with the options that all commands have."""
    made = argparse.ArgumentParser(prog=f"main.py {name}", description=description)
    made.add_argument("--settings", type=Path, metavar="FILE", help="settings file (default: .env if there is one)")
    return made


def settings_of(options: argparse.Namespace, **overrides: Any) -> Settings:
    """The settings; ends the program with a sentence when they cannot be used."""
    try:
        return load(options.settings, **{k: v for k, v in overrides.items() if v is not None})
    except SettingsError as error:
        fail(str(error))


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """End the program with one sentence for a person."""
    say(f"error: {sentence}", error=True)
    raise SystemExit(code)


def say(text: str = "", *, error: bool = False) -> None:
    """A line for the person at the terminal."""
    stream = sys.stderr if error else sys.stdout
    stream.write(text + "\n")
    stream.flush()


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a command on uvloop; Ctrl-C and SIGTERM cancel it, which is a normal end."""

    async def guarded() -> int:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return DONE

    return uvloop.run(guarded())
