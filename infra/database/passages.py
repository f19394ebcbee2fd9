"""Passages: what was said in past conversations, kept so that its owner finds it again by what it was about.

A search knows two ways to a passage and adds them up: the vector of its meaning, and the words themselves, as digests
under the owner's name, so that the index tells nobody what was said. Both look at the owner's rows only.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence

import msgspec
import structlog
from asyncpg import Pool

from infra.database.queries import load
from infra.embeddings import Embedder, EmbeddingError, Vector, signature, stems, words_of
from infra.vault import Vault

CONTEXT = "passages.text"  # what a sealed passage is sealed for
KEPT_DAYS = 90  # of calls that belong to nobody; people set their own in users.transcript_days
CANDIDATES = 60  # of each way, before they are added up
LIKELY = 600  # by their signatures, before their vectors are compared; whoever has fewer passages loses none
SHORTEST = 2  # meaningful words; "Yes, please." says nothing about a conversation
WORDS_WEIGHT = 1.5  # of the words' rank beside the closeness of the vectors
FURTHER = (1.0, 0.4, 0.2)  # what a call's best, second and third passage count
DIGEST_CHARS = 16
BATCH = 500  # calls whose transcripts are deleted in one transaction

_SQL = load("passages", "insert", "near", "said", "read", "forget", "expired", "drop_turns", "drop_passages")
log = structlog.get_logger()
Key = tuple[str, int]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A turn to be found again: its number in the call, who said it, and when."""

    number: int
    who: str
    at: dt.datetime
    text: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A call that fits a search, with its passage that fits best. A higher score fits better."""

    call_id: str
    number: int
    persona_id: str | None
    persona: str | None
    passage: str
    who: str
    at: dt.datetime
    score: float


class Passages:
    """Keeps and finds passages, over an asyncpg pool.

    Args:
        vault: seals the text with its owner's key.
        embedder: makes the vectors; after a change of provider older passages are found by their words only.
    """

    def __init__(self, pool: Pool, vault: Vault, embedder: Embedder) -> None:
        self._pool, self._vault, self._embedder = pool, vault, embedder

    async def close(self) -> None:
        """Give the embedder's connections back."""
        await self._embedder.close()

    async def add(self, owner: str, call_id: str, turns: Sequence[Said]) -> int:
        """Keep the turns of the owner's call; returns how many said enough to be worth it. Repeating it is safe.

        Raises:
            EmbeddingError: the provider of vectors is away; ask again later.
            KeyDestroyed: the owner's account is gone.
        """
        kept = [turn for turn in turns if len(stems(words_of(turn.text))) >= SHORTEST]
        if not kept:
            return 0
        vectors = await self._embedder.embed([turn.text for turn in kept])
        rows = await self._pool.fetch(
            _SQL.insert,
            owner,
            call_id,
            self._embedder.name,
            [turn.number for turn in kept],
            [turn.who for turn in kept],
            [turn.at for turn in kept],
            [await self._vault.seal(owner, turn.text, CONTEXT) for turn in kept],
            [_literal(vector) for vector in vectors],
            [signature(vector) for vector in vectors],
            [" ".join(sorted(self._digests(owner, turn.text))) for turn in kept],
        )
        return len(rows)

    async def find(self, owner: str, query: str, limit: int = 10) -> tuple[Found, ...]:
        """The owner's calls that fit `query` best, the best first; none for a query without meaning."""
        near, said = await asyncio.gather(self._near(owner, query), self._said(owner, query))
        scores: dict[Key, float] = dict(near)
        for key, rank in said.items():
            scores[key] = scores.get(key, 0.0) + WORDS_WEIGHT * rank
        best = by_call(scores)[:limit]
        if not best:
            return ()
        calls, numbers = [call for (call, _), _ in best], [number for (_, number), _ in best]
        rows = {
            (row["call_id"], row["number"]): row for row in await self._pool.fetch(_SQL.read, owner, calls, numbers)
        }
        found: list[Found] = []
        for key, score in best:
            if (row := rows.get(key)) is not None:  # else it was deleted just now
                text = await self._vault.unseal(owner, row["text_sealed"], CONTEXT)
                told = {name: row[name] for name in ("call_id", "number", "persona_id", "persona", "who", "at")}
                found.append(Found(**told, passage=text, score=round(score, 4)))
        return tuple(found)

    async def forget(self, owner: str, call_id: str) -> None:
        """Drop the passages of a call."""
        await self._pool.execute(_SQL.forget, owner, call_id)

    async def _near(self, owner: str, query: str) -> dict[Key, float]:
        try:
            (vector,) = await self._embedder.embed([query])
        except EmbeddingError as error:
            log.warning("search_without_vectors", error=str(error))
            return {}
        if not any(vector):
            return {}
        values = (_literal(vector), signature(vector), LIKELY, CANDIDATES)
        rows = await self._pool.fetch(_SQL.near, owner, self._embedder.name, *values)
        return {(row["call_id"], row["number"]): row["closeness"] for row in rows if row["closeness"] > 0}

    async def _said(self, owner: str, query: str) -> dict[Key, float]:
        digests = self._digests(owner, query)
        if not digests:
            return {}
        rows = await self._pool.fetch(_SQL.said, owner, " | ".join(sorted(digests)), CANDIDATES)
        return {(row["call_id"], row["number"]): row["closeness"] for row in rows}

    def _digests(self, owner: str, text: str) -> set[str]:
        return {
            self._vault.digest(f"passages.words:{owner}", word).hex()[:DIGEST_CHARS] for word in stems(words_of(text))
        }


def by_call(scores: dict[Key, float]) -> list[tuple[Key, float]]:
    """Each call's best passage with the call's score, the best call first: further passages that fit add to it."""
    calls: dict[str, list[tuple[float, int]]] = {}
    for (call_id, number), score in scores.items():
        calls.setdefault(call_id, []).append((score, -number))
    found = []
    for call_id, passages in calls.items():
        passages.sort(reverse=True)
        total = sum(weight * score for weight, (score, _) in zip(FURTHER, passages, strict=False))
        found.append(((call_id, -passages[0][1]), total))
    return sorted(found, key=lambda one: (-one[1], one[0]))


async def delete_expired(pool: Pool, now: dt.datetime) -> int:
    """Delete the transcripts and passages whose time is over at `now`; returns of how many calls.

    The time runs from the end of a call and is what its owner set (90 days unless shortened).
    """
    done = 0
    while calls := [row["id"] for row in await pool.fetch(_SQL.expired, now, KEPT_DAYS, BATCH)]:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL.drop_passages, calls)
            await connection.execute(_SQL.drop_turns, calls)
        done += len(calls)
    if done:
        log.info("transcripts_deleted", calls=done)
    return done


def _literal(vector: Vector) -> str:
    """A vector as the database reads it."""
    return f"[{','.join(f'{number:.6g}' for number in vector)}]"
