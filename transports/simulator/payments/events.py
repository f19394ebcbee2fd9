"""Events: what happened, in order, for 30 days. https://docs.stripe.com/api/events"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from .errors import Thing, invalid, no_such
from .params import PAGE, Shape, Span, Text, Truth, Words
from .store import EVENTS_KEPT_S, Store

_MOST_TYPES = 20
LIST: Final[Shape] = {
    **PAGE,
    "created": Span(),
    "delivery_success": Truth(),
    "type": Text(most=100),
    "types": Words(),
}


def get_event(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/events/{event}`"""
    event = store.find("event", ids["event"], "id", 404)
    if event["created"] + EVENTS_KEPT_S <= store.now:
        raise no_such("event", event["id"], "id", 404)
    return event


def list_events(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/events`: the way to catch up with webhooks that never came"""
    if "type" in params and "types" in params:
        raise invalid("You may give type or types, not both.", "types")
    if len(params.get("types", ())) > _MOST_TYPES:
        raise invalid(f"You may give at most {_MOST_TYPES} types.", "types")
    wanted = params.get("types") or [params.get("type", "*")]
    taken = params.get("delivery_success")
    return store.page(
        "event",
        "/v1/events",
        params,
        lambda each: (
            each["created"] + EVENTS_KEPT_S > store.now
            and any(fnmatchcase(each["type"], pattern) for pattern in wanted)
            and (taken is None or taken == (each["pending_webhooks"] == 0))
        ),
    )
