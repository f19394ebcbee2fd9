"""What a call used of whom, read from its rows when it is over: the uses that its cost entries are made of.

Times come from the call, tokens and characters from what its host noted beside each turn (`timings`). What the house's
own engines do is counted as compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from asyncpg import Pool, Record

from infra.database.queries import load
from infra.money.costs import Costs, Use
from infra.settings import Settings

log = structlog.get_logger()
_SQL = load("meter", "call", "tokens")
MINUTE = 60
CORES = 0.1  # of a processor, that a call keeps busy; measured, docs/benchmarks.md
OWN_CORES = 0.5  # more, for engines of our own


@dataclass(frozen=True, slots=True)
class Rates:
    """Which providers a node's calls use, by the names that rates have."""

    listener: str
    listener_model: str
    voice: str
    voice_model: str
    models: dict[str, str]  # language model provider to model

    @classmethod
    def of(cls, settings: Settings) -> Rates:
        """Those that the settings name."""
        listener, voice, _ = settings.engines
        return cls(
            listener,
            settings.deepgram.model,
            voice,
            settings.elevenlabs.model,
            {"cerebras": settings.cerebras.model, "openai": settings.openai.model},
        )


class Meter:
    """Writes the cost entries of calls."""

    def __init__(self, pool: Pool, rates: Rates) -> None:
        self._pool, self._costs, self._rates = pool, Costs(pool), rates

    async def note(self, call_id: str) -> int:
        """Note what a call that is over used; returns what it cost. Doing it again changes nothing."""
        call = await self._pool.fetchrow(_SQL.call, call_id)
        if call is None:
            return 0
        tokens = await self._pool.fetch(_SQL.tokens, call_id)
        uses = [*self._times(call), *self._words(call), *self._thoughts(tokens)]
        named = [_named(use, call_id) for use in uses if use.quantity > 0]
        return await self._costs.add(named, owner=call["owner"], call_id=call_id, at=call["ended_at"])

    def _times(self, call: Record) -> Iterator[Use]:
        seconds = call["connected_seconds"] or 0.0
        billed = math.ceil(seconds / MINUTE) * MINUTE  # carriers bill started minutes
        if call["direction"] != "web":
            yield Use("carrier", "twilio", "", "call_second", billed)
            yield Use("carrier", "twilio", "", "stream_second", billed)
        if call["direction"] == "outbound" and seconds:
            yield Use("carrier", "twilio", "", "detection", 1)
        own = (self._rates.listener != "deepgram") + (self._rates.voice != "elevenlabs")
        yield Use("compute", "own", "compute", "core_second", seconds * (CORES + OWN_CORES * own))
        if self._rates.listener == "deepgram":
            yield Use("listening", "deepgram", self._rates.listener_model, "heard_second", seconds)

    def _words(self, call: Record) -> Iterator[Use]:
        if self._rates.voice == "elevenlabs":
            yield Use("speaking", "elevenlabs", self._rates.voice_model, "character", call["characters"])

    def _thoughts(self, tokens: list[Record]) -> Iterator[Use]:
        for row in tokens:
            model = self._rates.models.get(row["provider"], "")
            yield Use("thinking", row["provider"], model, "token_in", row["tokens_in"])
            yield Use("thinking", row["provider"], model, "token_out", row["tokens_out"])


def _named(use: Use, call_id: str) -> Use:
    key = f"{call_id}:{use.feature}:{use.provider}:{use.unit}"
    return Use(use.feature, use.provider, use.model, use.unit, use.quantity, key)
