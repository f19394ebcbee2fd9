"""Faults on demand: what a payment network does to a server, by probability or by count, from one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final

KINDS: Final = {
    "rest_lost_reply": "the request is carried out, its reply is lost (the connection drops)",
    "rest_error": "the request is answered with `status`, not carried out; with `done` it was, and the answer is kept",
    "rest_too_many": "the request is answered 429 and not carried out",
    "rest_slow": "the request is carried out after `ms`",
    "rest_hang": "the request is never answered; with `done` it is carried out",
    "webhook_duplicate": "the event is sent twice",
    "webhook_reorder": "the event is sent after the next one",
    "webhook_late": "the event is sent `ms` late",
    "webhook_drop": "the event is never sent",
    "webhook_bad_signature": "the event is signed with a wrong secret, this time",
    "webhook_stale": "the event is signed 301 s ago, this time",
}
_STATUSES: Final = range(500, 600)


class FaultError(Exception):
    """The fault cannot be injected; the message says which field to change."""


@dataclass
class Fault:
    """One rule."""

    kind: str
    method: str = ""  # of a request: GET, POST, DELETE; empty is any
    path: str = "*"  # of a request, as a shell pattern
    event: str = "*"  # the type of an event, as a shell pattern
    probability: float = 1.0
    times: int | None = None  # None is without limit
    after: int = 0  # how many that match pass first
    ms: float = 0.0
    status: int = 500
    done: bool = False
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def fits(self, kinds: str, method: str, path: str, event: str) -> bool:
        """Whether it may strike here."""
        return (
            self.kind.startswith(kinds)
            and self.method in ("", method)
            and fnmatchcase(path, self.path)
            and fnmatchcase(event, self.event)
        )


def parse(data: Mapping[str, Any]) -> Fault:
    """A fault from JSON.

    Raises:
        FaultError: a field is unknown or has no meaning.
    """
    known = {each.name: each for each in fields(Fault) if each.init}
    if strange := set(data) - set(known):
        raise FaultError(f"A fault knows no {', '.join(sorted(strange))}; it knows {', '.join(known)}.")
    if data.get("kind") not in KINDS:
        raise FaultError(f"Unknown fault {data.get('kind')!r}; there are: {', '.join(KINDS)}.")
    for name in ("method", "path", "event"):
        if not isinstance(data.get(name, ""), str):
            raise FaultError(f"{name} is a string.")
    for name in ("probability", "ms"):
        if isinstance(data.get(name, 0), bool) or not isinstance(data.get(name, 0), int | float):
            raise FaultError(f"{name} is a number.")
    for name in ("times", "after", "status"):
        if isinstance(data.get(name), bool) or not isinstance(data.get(name, 0), int | None):
            raise FaultError(f"{name} is a whole number.")
    if not isinstance(data.get("done", False), bool):
        raise FaultError("done is true or false.")
    fault = Fault(**data)
    fault.method = fault.method.upper()
    if not 0 <= fault.probability <= 1 or not 0 <= fault.ms < 1e9 or fault.after < 0 or (fault.times or 0) < 0:
        raise FaultError("probability lies between 0 and 1; ms, times and after are not negative.")
    if fault.status not in _STATUSES:
        raise FaultError("status lies between 500 and 599.")
    return fault


class Faults:
    """The rules in force. The same seed and the same questions give the same faults."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a rule in force."""
        self._rules.append(fault)

    def clear(self) -> None:
        """Lift every rule and start the dice anew."""
        self._rules.clear()
        self._chance = random.Random(self._seed)

    def request(self, method: str, path: str) -> Fault | None:
        """What happens to a request, if anything does: the first rule that strikes."""
        return self._strike("rest_", method, path, "")

    def event(self, kind: str, event: str) -> Fault | None:
        """Whether this happens to an event."""
        return self._strike(kind, "", "", event)

    def _strike(self, kinds: str, method: str, path: str, event: str) -> Fault | None:
        for fault in self._rules:
            if not fault.fits(kinds, method, path, event):
                continue
            if fault.times is not None and fault.struck >= fault.times:
                continue
            fault.seen += 1
            if fault.seen <= fault.after:
                continue
            if fault.probability < 1 and self._chance.random() >= fault.probability:
                continue
            fault.struck += 1
            return fault
        return None

    def status(self) -> list[dict[str, Any]]:
        """Every rule with how often it has struck."""
        return [asdict(fault) for fault in self._rules]
