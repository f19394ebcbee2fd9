"""One-time codes in PostgreSQL: six digits that prove an address, long tokens that set a password anew (COM-24)."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool

from infra.database.pool import Database
from infra.database.queries import load
from infra.identity.codes import digits
from infra.identity.tokens import random_token
from infra.ids import new_id
from infra.vault import Vault

_SQL = load("codes", "one_at_a_time", "withdraw", "make", "attempt", "spend")
EMAIL_LIFE = dt.timedelta(minutes=30)
RESET_LIFE = dt.timedelta(minutes=30)
TRIES = 5


class CodeWrong(Exception):
    """The code is wrong, used, expired, withdrawn by a newer one, or was guessed at too often. Ask for a new one."""


class Codes:
    """Makes codes and takes each at most once."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault

    async def email_code(self, owner: str, email: str, database: Database) -> str:
        """Six digits that prove the owner's address; earlier ones are worth nothing. To be made in a transaction."""
        code = digits()
        await self._make(owner, "email", self._digest(owner, email, code), EMAIL_LIFE, database)
        return code

    async def take_email_code(self, owner: str, email: str, code: str, database: Database | None = None) -> None:
        """The owner gave this code for this address.

        Raises:
            CodeWrong
        """
        digest = self._digest(owner, email, code)
        row = await (database or self._pool).fetchrow(_SQL.attempt, owner, "email", digest, TRIES)
        if row is None or not row["right"]:
            raise CodeWrong("The code is not right.")

    async def reset_token(self, owner: str, database: Database) -> str:
        """A token that lets its holder set the owner's password once. To be made in a transaction."""
        token = random_token("reset")
        await self._make(owner, "reset", self._vault.digest("reset", token), RESET_LIFE, database)
        return token

    async def take_reset_token(self, token: str, database: Database | None = None) -> str:
        """Whose password the token may set; it is used with this.

        Raises:
            CodeWrong
        """
        digest = self._vault.digest("reset", token)
        owner: str | None = await (database or self._pool).fetchval(_SQL.spend, "reset", digest)
        if owner is None:
            raise CodeWrong("The token is not right.")
        return owner

    async def withdraw(self, owner: str, purpose: str, database: Database | None = None) -> None:
        """The owner's codes of this purpose are worth nothing from now on."""
        await (database or self._pool).execute(_SQL.withdraw, owner, purpose)

    async def _make(self, owner: str, purpose: str, digest: bytes, life: dt.timedelta, database: Database) -> None:
        await database.execute(_SQL.one_at_a_time, owner)
        await self.withdraw(owner, purpose, database)
        await database.execute(_SQL.make, new_id("code"), owner, purpose, digest, life)

    def _digest(self, owner: str, email: str, code: str) -> bytes:
        return self._vault.digest("email-code", f"{owner}\0{email}\0{code}")
