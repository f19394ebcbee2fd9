"""What to start and how to look after it: plain records given to `spawn`."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from actors.runtime.actor import Actor

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart; the first within a period is immediate."""

    base_s: float = 0.1
    most_s: float = 10.0
    jitter: float = 0.25

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds before the `attempt`-th restart (from 1) of one child within a period."""
        if attempt <= 1:
            return 0.0
        bare_s = min(self.most_s, self.base_s * float(1 << min(attempt - 2, 30)))
        return bare_s * (1 + rng.random() * self.jitter)


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a supervisor does when a child ends. `intensity` restarts within `period_s` are borne."""

    strategy: Strategy = "one_for_one"
    intensity: int = 5
    period_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """An actor to start: a class, `"module:Class"` or callable, its keyword arguments, and a name."""

    factory: Callable[..., Actor] | str
    name: str
    args: dict[str, Any] = field(default_factory=dict)
    restart: Restart = "temporary"
    mailbox: int = 256
    stop_s: float = 5.0
    supervision: Supervision = field(default_factory=Supervision)

    def build(self) -> Actor:
        """A fresh instance; each incarnation gets its own."""
        factory = resolve(self.factory) if isinstance(self.factory, str) else self.factory
        actor: Actor = factory(**self.args)
        return actor


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to start. `entry` is `"module:function"`, `async def main(system, args, fds)`.

    `args` must fit msgpack. `fds` maps names to open descriptors that stay open here for restarts; the child
    gets its own copies. With `ready=True`, starting waits until the entry calls `system.ready()`, at most
    `start_s`. `memory_mb` caps the proportional set size; 0 is no cap.
    """

    name: str
    entry: str
    args: dict[str, Any] = field(default_factory=dict)
    fds: dict[str, int] = field(default_factory=dict)
    start: Literal["fork", "exec"] = "fork"
    restart: Restart = "permanent"
    ready: bool = False
    start_s: float = 30.0
    ping_s: float = 1.0
    stall_s: float = 5.0
    memory_mb: int = 0
    grace_s: float = 5.0


def resolve(path: str) -> Any:
    """The object named `"module:attribute"`. ImportError or AttributeError when it is not there."""
    module, _, attribute = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
