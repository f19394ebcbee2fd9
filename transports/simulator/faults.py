"""Faults on demand: what a real network does to a server, by probability or one at a time, from one seed."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

KINDS = {
    "rest_lost_reply": "the REST request is carried out, its reply is lost (the connection closes)",
    "rest_error": "the REST request is answered with `status` (500 unless told) and not carried out",
    "rest_too_many": "the REST request is answered 429, code 20429",
    "webhook_late": "the webhook is sent `ms` late",
    "webhook_duplicate": "the webhook is sent twice",
    "webhook_reorder": "the status callback is held back until the next one has been sent",
    "webhook_drop": "the webhook is never sent",
    "webhook_bad_signature": "the webhook carries a wrong signature",
    "stream_bad_signature": "the media socket's upgrade carries a wrong signature",
    "stream_drop": "the media socket drops after `ms`: `mode` is fin, rst or close",
    "stream_half_open": "after `ms` the network neither reads nor writes, nor closes",
    "stream_jitter": "frames to the server are held back by up to `ms` at random, then sent in a burst",
    "stream_garbage": "after `ms` the server is sent a message that is no JSON",
    "stream_oversized": "after `ms` the server is sent a message of `size` bytes",
}
MODES = ("fin", "rst", "close")


class FaultError(Exception):
    """The fault cannot be injected; the message says which field to change."""


@dataclass(slots=True)
class Fault:
    """One rule. `match` narrows it to webhooks or REST operations whose name contains it; `call` to one call."""

    kind: str
    probability: float = 1.0
    times: int | None = None  # how often it may strike; None is without limit
    match: str = ""
    call: str = ""
    ms: float = 0.0
    ms_max: float | None = None  # a moment drawn between `ms` and `ms_max`
    mode: str = "fin"
    status: int = 500
    size: int = 1 << 20
    struck: int = 0

    def moment_ms(self, chance: random.Random) -> float:
        """When or by how much it strikes."""
        return self.ms if self.ms_max is None else chance.uniform(self.ms, self.ms_max)


def parse(data: dict[str, Any]) -> Fault:
    """A fault from JSON or TOML.

    Raises:
        FaultError: a field is unknown or has no meaning.
    """
    try:
        fault = Fault(**{name: value for name, value in data.items() if name != "struck"})
    except TypeError as error:
        raise FaultError(
            f"Unknown field of a fault: {error}. Fields: {', '.join(Fault.__dataclass_fields__)}."
        ) from error
    if fault.kind not in KINDS:
        raise FaultError(f"Unknown fault {fault.kind!r}; there are: {', '.join(KINDS)}.")
    if fault.mode not in MODES:
        raise FaultError(f"mode must be one of {', '.join(MODES)}, not {fault.mode!r}.")
    if not 0 <= fault.probability <= 1 or fault.ms < 0:
        raise FaultError("probability lies between 0 and 1, and ms is not negative.")
    return fault


class Faults:
    """The rules in force. The same seed and the same questions give the same faults."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a rule in force."""
        self._rules.append(fault)

    def clear(self) -> None:
        """Lift every rule and start the dice anew."""
        self._rules.clear()
        self.chance = random.Random(self.seed)

    def strike(self, kind: str, name: str = "", call: str = "") -> Fault | None:
        """The rule that strikes here, if one does; it is counted."""
        for fault in self._rules:
            if fault.kind != kind or fault.match not in name or (fault.call and fault.call != call):
                continue
            if fault.times is not None and fault.struck >= fault.times:
                continue
            if fault.probability < 1 and self.chance.random() >= fault.probability:
                continue
            fault.struck += 1
            return fault
        return None

    def status(self) -> list[dict[str, Any]]:
        """Every rule with how often it has struck."""
        return [asdict(fault) for fault in self._rules]
