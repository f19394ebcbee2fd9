"""What somebody's data is, all of it: given to them as a document, or destroyed (COM-51, COM-52).

Tables are found in the catalogue: one with a column `owner` or `user_id` holds somebody's rows, and so does one that
refers to such a table. A table that is added later is exported and erased without a word here; a test refuses tables
that are neither owned nor known to be nobody's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from asyncpg import Connection, Pool
from asyncpg.pool import PoolConnectionProxy
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.database.audit import Audit
from infra.database.pool import Database
from infra.database.queries import load
from infra.database.users import UnknownUser
from infra.ids import new_id
from infra.vault import PREFIX, Vault, VaultError

_SQL = load("erasure")
# Owned tables whose rows outlive the account, each with its reason. They hold ids and no content.
KEPT = {
    "user_keys": "the empty place of the destroyed key, which lets none be made anew",
    "erasures": "the receipt",
}
# Books whose rows lose the owner and stay.
DISOWNED = {"costs": "what a call cost us, without whose it was"}
# Columns that are no data about the person, but secrets of the server or their sealed or computed forms.
HIDDEN = frozenset(
    {"password_hash", "totp_sealed", "totp_step", "digest", "wrapped", "hash", "previous", "signature", "public_key"}
    | {"letter_sealed", "embedding", "made_in", "token_epoch"}
)
START = b""


class Unfinished(Exception):
    """A call is under way, or money is set aside for one. It can be done when that has ended."""


class UnknownReceipt(Exception):
    """There is no such receipt."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that somebody's data was destroyed: what was signed, its hash, and the Ed25519 signature of the hash."""

    document: dict[str, Any]
    hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did; `recordings` are files that lie on the nodes, unreadable without the key."""

    receipt: Receipt
    recordings: tuple[str, ...]


Last = Callable[[Database, Receipt], Awaitable[object]]


class Erasures:
    """Exports and destroys what is somebody's, and answers for the receipts."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault
        self._audit = Audit(pool)
        self._signing = Ed25519PrivateKey.from_private_bytes(vault.derive("receipts"))

    @property
    def public_key(self) -> bytes:
        """What receipts are checked with."""
        return self._signing.public_key().public_bytes_raw()

    async def export(self, owner: str) -> dict[str, list[dict[str, Any]]]:
        """Every row that is the owner's, by table, unsealed.

        Raises:
            UnknownUser
        """
        found: dict[str, list[dict[str, Any]]] = {}
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            profile = await connection.fetch(_SQL.profile, owner)
            if not profile or profile[0]["row"]["erased_at"] is not None:
                raise UnknownUser("There is no such account.")
            found["users"] = await self._readable(owner, "users", profile)
            for table in await _owned(connection):
                found[table] = await self._readable(owner, table, await connection.fetch(_SQL.rows, table, owner))
            others = (
                ("audit", _SQL.audited),
                ("ledger_transactions", _SQL.booked),
                ("ledger_entries", _SQL.booked_lines),
            )
            for table, query in others:
                found[table] = await self._readable(owner, table, await connection.fetch(query, owner))
        return found

    async def check(self, owner: str) -> None:
        """Whether nothing of the owner's is under way.

        Raises:
            Unfinished
        """
        if await self._pool.fetchval(_SQL.unfinished, owner):
            raise Unfinished(f"{Unfinished.__doc__}")

    async def erase(self, owner: str, requested_at: dt.datetime, last: Last | None = None) -> Erased:
        """Destroy the owner's key and rows, all or nothing, and leave the receipt.

        `last` is done in the same transaction, after everything else.

        Raises:
            Unfinished: nothing was destroyed.
            UnknownUser
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SQL.hold_fast, owner) is None:
                raise UnknownUser("There is no such account.")
            if await connection.fetchval(_SQL.unfinished, owner):
                raise Unfinished(f"{Unfinished.__doc__}")
            await connection.execute(_SQL.begin, owner)
            recordings = [row["recording_path"] for row in await connection.fetch(_SQL.recordings, owner)]
            await connection.execute(_SQL.disown_costs, owner)
            gone: dict[str, int] = {}
            for table in in_order(await _owned(connection), await _links(connection)):
                if table not in KEPT and table not in DISOWNED:
                    gone[table] = await connection.fetchval(_SQL.erase, table, owner)
            await connection.execute(_SQL.empty_user, owner)
            await self._vault.destroy(owner, connection)
            receipt = await self._sign(connection, owner, requested_at, gone)
            context = {"receipt": receipt.document["id"]}
            await self._audit.note(owner, "account.erased", owner, context, database=connection)
            if last is not None:
                await last(connection, receipt)
        self._vault.forget(owner)
        return Erased(receipt, tuple(recordings))

    async def receipt(self, erasure_id: str) -> Receipt:
        """A receipt.

        Raises:
            UnknownReceipt
        """
        row = await self._pool.fetchrow(_SQL.receipt, erasure_id)
        if row is None:
            raise UnknownReceipt("There is no such receipt.")
        return Receipt(row["document"], row["hash"], row["signature"])

    async def broken(self) -> str | None:
        """The first receipt that was tampered with, or follows a missing one; None if none was."""
        previous, seq = START, 0
        for row in await self._pool.fetch(_SQL.receipts):
            good = row["seq"] == seq + 1 and row["previous"] == previous
            good = good and row["hash"] == chained(previous, row["document"]) and row["document"]["seq"] == row["seq"]
            try:
                self._signing.public_key().verify(row["signature"], row["hash"])
            except InvalidSignature:
                good = False
            if not good:
                return str(row["id"])
            previous, seq = row["hash"], row["seq"]
        return None

    async def unaccounted(self, nobodys: Iterable[str]) -> frozenset[str]:
        """Tables that are neither owned, nor part of what is owned, nor named as `nobodys`."""
        async with self._pool.acquire() as connection:
            every = {row["relation"] for row in await connection.fetch(_SQL.tables)}
            return frozenset(every - set(await _owned(connection)) - set(nobodys))

    async def _sign(
        self, connection: PoolConnectionProxy, owner: str, requested_at: dt.datetime, gone: Mapping[str, int]
    ) -> Receipt:
        await connection.execute(_SQL.lock_chain)
        last = await connection.fetchrow(_SQL.last_receipt)
        seq, previous = (1, START) if last is None else (last["seq"] + 1, last["hash"])
        destroyed_at: dt.datetime = await connection.fetchval(_SQL.clock)
        document = {
            "id": new_id("erasure"),
            "seq": seq,
            "user": owner,
            "requested_at": requested_at.isoformat(),
            "destroyed_at": destroyed_at.isoformat(),
            "rows": dict(gone),
            "key": "destroyed",
            "previous": previous.hex(),
        }
        hashed = chained(previous, document)
        signature = self._signing.sign(hashed)
        values = (document["id"], seq, owner, requested_at, destroyed_at, document, previous, hashed, signature)
        await connection.execute(_SQL.keep_receipt, *values)
        return Receipt(document, hashed, signature)

    async def _readable(self, owner: str, table: str, rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {name: await self._open(owner, f"{table}.{name}", value) for name, value in row["row"].items()}
            for row in ({"row": {k: v for k, v in row["row"].items() if k not in HIDDEN}} for row in rows)
        ]

    async def _open(self, owner: str, context: str, value: Any) -> Any:
        """A value as it was before it was sealed; a column `x_sealed` is sealed as `x` or under its own name."""
        if not isinstance(value, str) or not value.startswith(PREFIX):
            return value
        for place in dict.fromkeys((context, context.removesuffix("_sealed"))):
            try:
                return await self._vault.unseal(owner, value, place)
            except VaultError:
                continue
        return None  # sealed for a use of the server's own


async def sweep_erased(pool: Pool, since: dt.datetime) -> int:
    """Delete what requests that were under way wrote for somebody erased after `since`; how many rows.

    Another node believes a session for a moment and a key for a minute, so a row may come after the last was deleted.
    """
    done = 0
    for gone in await pool.fetch(_SQL.lately_erased, since):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL.begin, gone["id"])
            for table in in_order(await _owned(connection), await _links(connection)):
                if table not in KEPT and table not in DISOWNED:
                    done += await connection.fetchval(_SQL.erase, table, gone["id"])
    return done


def chained(previous: bytes, document: Mapping[str, Any]) -> bytes:
    """The hash of a receipt that follows another."""
    return hashlib.sha256(previous + msgspec.json.encode(document, order="sorted")).digest()


def in_order(tables: Iterable[str], links: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The tables so that each comes before those it refers to.

    Raises:
        ValueError: they refer to each other in a circle.
    """
    waiting = set(tables)
    refers = [(child, parent) for child, parent in links if child in waiting and parent in waiting]
    done: list[str] = []
    while waiting:
        free = sorted(table for table in waiting if not any(parent == table for _, parent in refers))
        if not free:
            raise ValueError(f"{', '.join(sorted(waiting))} refer to each other in a circle.")
        done += free
        waiting -= set(free)
        refers = [(child, parent) for child, parent in refers if child in waiting]
    return tuple(done)


async def _owned(connection: PoolConnectionProxy | Connection) -> list[str]:
    """Tables that hold somebody's rows, of their own or of their parent."""
    own = [row["relation"] for row in await connection.fetch(_SQL.owned)]
    parts = [row["relation"] for row in await connection.fetch(_SQL.parts)]
    return list(dict.fromkeys([*own, *parts]))


async def _links(connection: PoolConnectionProxy | Connection) -> list[tuple[str, str]]:
    return [(row["child"], row["parent"]) for row in await connection.fetch(_SQL.links)]
