"""The frozen records that everything alive answers to `status()`."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.runtime.messages import Message


class Status(msgspec.Struct, frozen=True):
    """One actor, as `tree()` and `main.py ops tree` show it. `parent` is empty at the top of a system."""

    name: str
    system: str
    kind: str
    parent: str = ""
    state: str = "running"
    age_s: float = 0.0
    restarts: int = 0
    restart: str = "temporary"
    handled: int = 0
    waiting: int = 0
    capacity: int = 0
    refused: int = 0
    snapshot: dict[str, Any] = {}


class SystemStatus(msgspec.Struct, frozen=True):
    """A whole system in one line. Lag is how late its loop runs, in milliseconds, over the last seconds."""

    name: str
    actors: int
    age_s: float
    lag_p50_ms: float = 0.0
    lag_p99_ms: float = 0.0
    failed: str = ""


class ProcessStatus(msgspec.Struct, frozen=True):
    """One process as its supervisor sees it. `report` is what the child gave to `system.report`."""

    name: str
    state: str
    pid: int = 0
    start: str = "fork"
    age_s: float = 0.0
    pss_mb: float = 0.0
    pings: int = 0
    lag_p50_ms: float = 0.0
    lag_p99_ms: float = 0.0
    silent_s: float = 0.0
    report: dict[str, Any] = {}


class Tree(Message, tag="runtime.tree"):
    """The answer to `Inspect`."""

    statuses: tuple[Status, ...]
    systems: tuple[SystemStatus, ...] = ()
