"""The do-not-call list, kept by the keyed digest of a number, so that it names nobody and outlives every account."""

from __future__ import annotations

from typing import Literal

from asyncpg import Pool

from infra.database.queries import load

_SQL = load("opt_outs", "stop", "start", "stopped", "digest_of")
Channel = Literal["voice", "keypad", "web", "sms", "operator"]
NOTE = "The person at this number asked not to be called any more."


class OptOuts:
    """Who must not be called. `digest` is `Vault.digest("number", e164)`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stop(self, digest: bytes, channel: Channel, call_id: str | None = None) -> int:
        """Nobody dials this number from now on. Returns how many booked calls were dropped by that."""
        dropped: int = await self._pool.fetchval(_SQL.stop, digest, channel, call_id, NOTE)
        return dropped

    async def start(self, digest: bytes, channel: Channel, call_id: str | None = None) -> None:
        """The person at this number wants calls again. What was dropped stays dropped."""
        await self._pool.execute(_SQL.start, digest, channel, call_id)

    async def stopped(self, digest: bytes) -> bool:
        """Whether the last word about this number was to stop."""
        found: bool = await self._pool.fetchval(_SQL.stopped, digest)
        return found

    async def digest_of(self, owner: str, number_id: str) -> bytes | None:
        """The digest of somebody's own number; None if they have none of this id."""
        found: bytes | None = await self._pool.fetchval(_SQL.digest_of, owner, number_id)
        return found
