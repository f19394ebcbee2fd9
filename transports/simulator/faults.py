"""Faults on demand: what a real network does to a server, by probability or one at a time, from one seed."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields
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


@dataclass(frozen=True, slots=True)
class Reach:
    """What a fault may strike, and how often."""

    probability: float = 1.0
    times: int | None = None  # None is without limit
    match: str = ""  # part of the name of the webhook or REST operation
    call: str = ""  # one call's sid; for streams also "all"


@dataclass(slots=True)
class Fault:
    """One rule."""

    kind: str
    reach: Reach = field(default_factory=Reach)
    ms: float = 0.0
    ms_max: float | None = None  # a moment drawn between `ms` and `ms_max`
    mode: str = "fin"
    status: int = 500
    size: int = 1 << 20
    struck: int = field(default=0, init=False)

    def moment_ms(self, chance: random.Random) -> float:
        """When or by how much it strikes."""
        return self.ms if self.ms_max is None else chance.uniform(self.ms, self.ms_max)


def parse(data: dict[str, Any]) -> Fault:
    """A fault from JSON or TOML.

    Raises:
        FaultError: a field is unknown or has no meaning.
    """
    known = {field_.name for field_ in (*fields(Reach), *fields(Fault))} - {"reach", "struck"}
    if strange := set(data) - known:
        raise FaultError(f"A fault knows no {', '.join(sorted(strange))}; it knows {', '.join(sorted(known))}.")
    narrow = {name: data[name] for name in Reach.__dataclass_fields__ if name in data}
    rest = {name: value for name, value in data.items() if name not in narrow}
    fault = Fault(kind=rest.pop("kind", ""), reach=Reach(**narrow), **rest)
    if fault.kind not in KINDS:
        raise FaultError(f"Unknown fault {fault.kind!r}; there are: {', '.join(KINDS)}.")
    if fault.mode not in MODES:
        raise FaultError(f"mode must be one of {', '.join(MODES)}, not {fault.mode!r}.")
    if not 0 <= fault.reach.probability <= 1 or fault.ms < 0:
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
            reach = fault.reach
            if fault.kind != kind or reach.match not in name or (reach.call and reach.call != call):
                continue
            if reach.times is not None and fault.struck >= reach.times:
                continue
            if reach.probability < 1 and self.chance.random() >= reach.probability:
                continue
            fault.struck += 1
            return fault
        return None

    def status(self) -> list[dict[str, Any]]:
        """Every rule with how often it has struck."""
        rules = (asdict(fault) for fault in self._rules)
        return [rule.pop("reach") | rule for rule in rules]
