"""Search as a resource: past conversations by what they were about."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from transports.http.api import Ask, Page, operation


class SearchQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to look for, in your own words."""

    q: Annotated[str, Meta(min_length=1, max_length=200, description="words, or a sentence, about what was said")]
    limit: Annotated[int, Meta(ge=1, le=50)] = 10


class Talker(msgspec.Struct, frozen=True):
    """The persona of a call. `name` is null once nobody knows it."""

    id: str | None
    name: str | None


class FoundCall(msgspec.Struct, frozen=True):
    """The call that was found."""

    id: str
    persona: Talker


class FoundView(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation that fits, with its passage that fits best; a higher score fits better."""

    call: FoundCall
    turn: int
    passage: str
    who: Literal["caller", "bot"]
    at: dt.datetime
    score: float


@operation("GET", "/v1/search", answers=Page[FoundView])
async def search(ask: Ask, query: SearchQuery) -> Page[FoundView]:
    """Find your past conversations by what they were about, the best fit first.

    Only calls whose transcript you agreed to keep can be found, and only yours.
    """
    found = await ask.services.passages.find(ask.user.user_id, query.q, query.limit)
    return Page(
        [
            FoundView(
                call=FoundCall(one.call_id, Talker(one.persona_id, one.persona)),
                turn=one.number,
                passage=one.passage,
                who="bot" if one.who == "bot" else "caller",
                at=one.at,
                score=one.score,
            )
            for one in found
        ]
    )
