"""What listening and speaking share when a provider fails: its record, its order, its way back.

Each provider has one `Breaker` per process, so a call need not find out for itself that a provider is away. A
failure benches the provider for some seconds, longer each time; then the next utterance tries it again, under
the same deadline, and it is first again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from bots.models.breaker import Breaker
from bots.models.port import Denied, ModelError
from bots.speech.mount import Mount


@lru_cache(maxsize=32)
def breaker(provider: str) -> Breaker:
    """The record of a provider in this process."""
    return Breaker(provider)


def in_order(mounts: Sequence[Mount], now: float) -> list[Mount]:
    """The mounts to try, best first: those in service in their order, then those on the bench."""
    return sorted(mounts, key=lambda mount: mount.breaker.state(now) == "open")


def bench(mount: Mount, error: ModelError, now: float) -> None:
    """Leave a provider out for a while: one failure is enough, since a caller is waiting."""
    mount.breaker.end_probe()
    if error.retry_after or isinstance(error, Denied):
        mount.breaker.failed(error, now)
    else:
        mount.breaker.broke_off(error, now)
