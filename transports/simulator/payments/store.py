"""What the processor remembers: its resources, its clock, its events; how it lists and expands them."""

from __future__ import annotations

import copy
import secrets
import string
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .cards import TOKENS, Card
from .errors import Thing, invalid, no_such

API_VERSION: Final = "2026-10-28.endive"
DAY_S: Final = 86_400
EVENTS_KEPT_S: Final = 30 * DAY_S
_ALPHABET: Final = string.ascii_letters + string.digits
_PREFIXES: Final = {
    "customer": "cus",
    "payment_method": "pm",
    "setup_intent": "seti",
    "payment_intent": "pi",
    "charge": "ch",
    "refund": "re",
    "dispute": "du",
    "balance_transaction": "txn",
    "event": "evt",
}
# What Stripe calls a resource in its messages.
_TITLES: Final = {
    "payment_method": "PaymentMethod",
    "setup_intent": "setupintent",
    "balance_transaction": "balance transaction",
}
# The fields that hold an id and may be asked for whole, with the table that holds them.
_LINKS: Final[dict[str, dict[str, str]]] = {
    "customer": {},
    "payment_method": {"customer": "customer"},
    "setup_intent": {"customer": "customer", "payment_method": "payment_method"},
    "payment_intent": {"customer": "customer", "payment_method": "payment_method", "latest_charge": "charge"},
    "charge": {
        "balance_transaction": "balance_transaction",
        "customer": "customer",
        "payment_intent": "payment_intent",
    },
    "refund": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
    },
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "balance_transaction": {"source": "*"},
    "event": {},
}
_MODELESS: Final = ("balance_transaction", "refund")  # have no `livemode`
_MOST_EXPANSIONS = 4


@dataclass
class Clock:
    """Real time, and how far a test has put it forward."""

    ahead_s: float = 0.0

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(time.time() + self.ahead_s)


@dataclass
class Store:
    """All resources. Execution never awaits, so every operation happens at once or not at all."""

    clock: Clock = field(default_factory=Clock)
    tables: dict[str, dict[str, Thing]] = field(default_factory=lambda: {kind: {} for kind in _PREFIXES})
    tokens: dict[str, Card] = field(default_factory=lambda: dict(TOKENS))
    cards: dict[str, Card] = field(default_factory=dict)  # by payment method
    spent: set[str] = field(default_factory=set)  # payment methods that can be used no more
    set_up: set[str] = field(default_factory=set)  # payment methods whose holder has proven who they are
    off_session: set[str] = field(default_factory=set)  # intents confirmed while the customer was away
    due: dict[str, tuple[int, str]] = field(default_factory=dict)  # refunds that end later: when and how
    holds: dict[str, int] = field(default_factory=dict)  # held charges, and until when
    unsettled: deque[Thing] = field(default_factory=deque)  # lines of the balance that are pending, oldest first
    cause: tuple[str | None, str | None] = (None, None)  # request and idempotency key behind what happens now
    address: str = ""  # where clients reach the double
    told: Callable[[Thing], None] = lambda event: None  # sends an event on its way

    @property
    def now(self) -> int:
        """Its clock, Unix seconds."""
        return self.clock.now

    def new(self, kind: str, fields: Thing) -> Thing:
        """Add a resource; its id, object, created and livemode are filled in."""
        identity = self.identity(_PREFIXES[kind])
        thing = {"id": identity, "object": kind, "created": self.now} | fields
        if kind not in _MODELESS:
            thing["livemode"] = False
        self.tables[kind][identity] = thing
        return thing

    @staticmethod
    def identity(prefix: str, size: int = 24) -> str:
        """A new id; random even where faults are seeded: a restarted double must not reuse those of its past life."""
        return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(size))

    def find(self, kind: str, identity: str, param: str, status: int = 400) -> Thing:
        """A resource by id.

        Raises:
            ApiError: nobody has it (404 where the path names it).
        """
        thing = self.tables[kind].get(identity)
        if thing is None:
            raise no_such(_TITLES.get(kind, kind), identity[:255], param, status)
        return thing

    def emit(self, kind: str, thing: Thing, previous: Thing | None = None) -> Thing:
        """Something happened; the webhook endpoint hears of it."""
        data: Thing = {"object": copy.deepcopy(thing)}
        if previous is not None:
            data["previous_attributes"] = previous
        request, key = self.cause
        event = self.new(
            "event",
            {
                "api_version": API_VERSION,
                "data": data,
                "pending_webhooks": 0,
                "request": {"id": request, "idempotency_key": key},
                "type": kind,
            },
        )
        self.told(event)
        return event

    def page(self, kind: str, url: str, params: Mapping[str, Any], wanted: Callable[[Thing], bool]) -> Thing:
        """A list as Stripe pages it: newest first, after or before an id.

        Raises:
            ApiError: the id to go on from does not exist.
        """
        everything = list(reversed(self.tables[kind].values()))
        places = {thing["id"]: place for place, thing in enumerate(everything)}
        limit = int(params.get("limit", 10))
        after, before = params.get("starting_after"), params.get("ending_before")
        if after and before:
            raise invalid("You can give starting_after or ending_before, not both.", "ending_before")
        for name, value in (("starting_after", after), ("ending_before", before)):
            if value and value not in places:
                raise no_such(_TITLES.get(kind, kind), value, name)
        begin = places[after] + 1 if after else 0
        end = places[before] if before else len(everything)
        bounds = params.get("created", {})
        found = [thing for thing in everything[begin:end] if _within(thing, bounds) and wanted(thing)]
        shown = found[-limit:] if before else found[:limit]
        return {
            "object": "list",
            "data": copy.deepcopy(shown),
            "has_more": len(found) > len(shown),
            "url": url,
        }

    def shown(self, thing: Thing, expand: list[str]) -> Thing:
        """A resource or list as a reply: a copy, with what was asked for in whole (see `check_expand`)."""
        reply = copy.deepcopy(thing)
        for path in expand:
            self._expand(reply, path.split("."))
        return reply

    def _expand(self, thing: Thing, steps: list[str]) -> None:
        name, rest = steps[0], steps[1:]
        kind = str(thing.get("object"))
        if kind == "list":
            for each in thing["data"] if rest else ():
                self._expand(each, rest)
            return
        if kind == "charge" and name == "refunds":
            refunds = [each for each in self.tables["refund"].values() if each["charge"] == thing["id"]]
            url = f"/v1/charges/{thing['id']}/refunds"
            data = copy.deepcopy(refunds[::-1])
            thing[name] = {"object": "list", "data": data, "has_more": False, "url": url}
        elif kind == "customer" and name == "invoice_settings" and name in thing:
            self._replace(thing[name], "default_payment_method", "payment_method")
        elif name in _LINKS.get(kind, {}):
            self._replace(thing, name, _LINKS[kind][name])
        if rest and isinstance(thing.get(name), dict):
            self._expand(thing[name], rest)

    def _replace(self, thing: Thing, name: str, kind: str) -> None:
        value = thing.get(name)
        if not isinstance(value, str):
            return
        tables = self.tables.values() if kind == "*" else (self.tables[kind],)
        for table in tables:
            if value in table:
                thing[name] = copy.deepcopy(table[value])


def check_expand(kind: str, paths: list[str], *, listed: bool) -> None:
    """Whether a reply of this kind has the fields that were asked for in whole.

    Raises:
        ApiError: it has not.
    """
    for path in paths:
        steps = path.split(".")
        if listed:
            if steps[0] != "data":
                raise _fixed(path)
            steps = steps[1:]
        if len(steps) > _MOST_EXPANSIONS:
            raise invalid(f"You cannot expand more than {_MOST_EXPANSIONS} levels of a property. Property: {path[:99]}")
        _check_steps(kind, steps, path)


def _check_steps(kind: str, steps: list[str], path: str) -> None:
    at = kind
    while steps:
        name, steps = steps[0], steps[1:]
        if at == "charge" and name == "refunds":
            if steps and steps[0] != "data":
                raise _fixed(path)
            at, steps = "refund", steps[1:]
        elif at == "customer" and name == "invoice_settings" and steps == ["default_payment_method"]:
            return
        elif name in _LINKS.get(at, {}):
            at = _LINKS[at][name]
            if at == "*":
                return  # a source may be anything
        else:
            raise _fixed(path)


def _fixed(path: str) -> Exception:
    return invalid(f"This property cannot be expanded ({path[:100]}).")


def _within(thing: Thing, bounds: Mapping[str, int]) -> bool:
    created: int = thing.get("created", 0)
    return (
        created > bounds.get("gt", -1)
        and created >= bounds.get("gte", 0)
        and created < bounds.get("lt", created + 1)
        and created <= bounds.get("lte", created)
    )
