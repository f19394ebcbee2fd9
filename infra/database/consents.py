"""What people agreed to, and took back: one immutable row each time, with the text they were shown (COM-49, CMB-08).

What a purpose has no granted row for is not done. The texts lie in `consents.toml` beside this file; a changed text has
a new version, and rows go on naming the version that was shown.
"""

from __future__ import annotations

import datetime as dt
import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.pool import Database
from infra.database.queries import load
from infra.ids import new_id

_SQL = load("consents", "give", "holding", "allowed", "history")
TEXTS = Path(__file__).with_name("consents.toml")
Purpose = Literal["service", "calls", "transcripts", "recording", "marketing", "likeness"]
Channel = Literal["web", "api", "voice", "keypad", "sms"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


class Consent(Row, frozen=True, kw_only=True):
    """Somebody agreed, or took it back."""

    id: str
    purpose: str
    granted: bool
    text_version: str
    channel: str
    ip: str | None
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class ConsentText:
    """What one agrees to, word by word, by language."""

    purpose: str
    version: str
    text: dict[str, str]


class Consents:
    """The record of what each person agreed to."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def give(
        self,
        owner: str,
        purpose: Purpose,
        granted: bool,
        *,
        channel: Channel,
        ip: str | None = None,
        database: Database | None = None,
    ) -> Consent:
        """The owner agrees to the present text of a purpose, or takes that back; it holds from now on."""
        values = (new_id("consent"), owner, purpose, granted, texts()[purpose].version, channel, ip)
        row = await (database or self._pool).fetchrow(_SQL.give, *values)
        assert row is not None
        return Consent.read(row)

    async def holding(self, owner: str) -> dict[str, bool]:
        """Every purpose, and whether the owner agrees to it now."""
        rows = await self._pool.fetch(_SQL.holding, owner)
        return dict.fromkeys(PURPOSES, False) | {row["purpose"]: row["granted"] for row in rows}

    async def allowed(self, owner: str, purpose: Purpose) -> bool:
        """Whether the owner agrees to one purpose now."""
        return bool(await self._pool.fetchval(_SQL.allowed, owner, purpose))

    async def history(self, owner: str) -> tuple[Consent, ...]:
        """Everything the owner ever agreed to or took back, newest first."""
        return tuple(Consent.read(row) for row in await self._pool.fetch(_SQL.history, owner))


@functools.cache
def texts() -> dict[str, ConsentText]:
    """The present text of every purpose."""
    document = tomllib.loads(TEXTS.read_text())
    return {
        purpose: ConsentText(purpose, document[purpose]["version"], document[purpose]["text"]) for purpose in PURPOSES
    }
