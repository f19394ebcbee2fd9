"""People's accounts in PostgreSQL."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool, UniqueViolationError

from infra.database.call_records import Row
from infra.database.pool import Database
from infra.database.queries import load
from infra.ids import new_id

_SQL = load("users")


class User(Row, frozen=True, kw_only=True):
    """Somebody with an account."""

    id: str
    email: str | None
    email_verified_at: dt.datetime | None
    password_hash: str | None
    name: str
    role: str
    zone: str
    language: str
    adult_at: dt.datetime | None
    token_epoch: int
    transcript_days: int
    totp_sealed: str | None
    totp_at: dt.datetime | None
    totp_step: int
    created_at: dt.datetime
    erased_at: dt.datetime | None


class UnknownUser(Exception):
    """There is no such account, or it was erased."""


class EmailTaken(Exception):
    """The address is proven to be another account's."""


class Users:
    """Accounts. A method with `database` runs on that connection, in its transaction."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self,
        email: str | None,
        password_hash: str | None,
        *,
        name: str = "",
        zone: str = "UTC",
        language: str = "en",
        adult: bool = False,
        proven: bool = False,
        database: Database | None = None,
    ) -> User:
        """A new account; `proven`: the address is known to be theirs.

        Raises:
            EmailTaken: proven, and another's. An address that is not proven may stand in several accounts.
        """
        values = (new_id("user"), email and normal(email), password_hash, name, zone, language, adult, proven)
        try:
            row = await (database or self._pool).fetchrow(_SQL.create, *values)
        except UniqueViolationError as error:
            raise EmailTaken("The address is another account's.") from error
        assert row is not None
        return User.read(row)

    async def get(self, user_id: str) -> User:
        """The account of this id.

        Raises:
            UnknownUser
        """
        return await self._one(_SQL.get, user_id)

    async def by_email(self, email: str) -> User | None:
        """Whose address this has been proven to be."""
        row = await self._pool.fetchrow(_SQL.by_email, normal(email))
        return None if row is None else User.read(row)

    async def unproven(self, email: str) -> User | None:
        """The newest account of those that were opened with this address and never proved it."""
        row = await self._pool.fetchrow(_SQL.unproven, normal(email))
        return None if row is None else User.read(row)

    async def change(
        self,
        user_id: str,
        *,
        name: str | None = None,
        zone: str | None = None,
        language: str | None = None,
        transcript_days: int | None = None,
    ) -> User:
        """Set what is not None.

        Raises:
            UnknownUser
        """
        return await self._one(_SQL.change, user_id, name, zone, language, transcript_days)

    async def attest(self, user_id: str, database: Database | None = None) -> User:
        """They say that they are 18 or older; the first time counts.

        Raises:
            UnknownUser
        """
        return await self._one(_SQL.attest, user_id, database=database)

    async def prove_email(self, user_id: str, database: Database | None = None) -> User:
        """The account's address is theirs.

        Raises:
            EmailTaken: another account proved it first.
            UnknownUser
        """
        try:
            return await self._one(_SQL.prove_email, user_id, database=database)
        except UniqueViolationError as error:
            raise EmailTaken("The address is another account's.") from error

    async def set_password(
        self, user_id: str, password_hash: str, *, end_tokens: bool, database: Database | None = None
    ) -> None:
        """Set the hash; `end_tokens` raises the epoch, which ends every access token."""
        await (database or self._pool).execute(_SQL.set_password, user_id, password_hash, end_tokens)

    async def raise_epoch(self, user_id: str, database: Database | None = None) -> None:
        """End every access token of the user."""
        await (database or self._pool).execute(_SQL.raise_epoch, user_id)

    async def set_role(self, user_id: str, role: str) -> None:
        """Give a role; their tokens end with the old one."""
        await self._pool.execute(_SQL.set_role, user_id, role)

    async def offer_factor(self, user_id: str, sealed: str) -> bool:
        """Keep the secret of a second factor that is to be confirmed; False if there is one already."""
        return await self._pool.fetchval(_SQL.offer_factor, user_id, sealed) is not None

    async def take_step(self, user_id: str, step: int) -> bool:
        """A code of this time step was given; False if this or a later one was given before."""
        return await self._pool.fetchval(_SQL.take_step, user_id, step) is not None

    async def drop_factor(self, user_id: str) -> bool:
        """Sign in by the password alone again; False if there was no second factor."""
        return await self._pool.fetchval(_SQL.drop_factor, user_id) is not None

    async def _one(self, query: str, *values: object, database: Database | None = None) -> User:
        row = await (database or self._pool).fetchrow(query, *values)
        if row is None:
            raise UnknownUser("There is no such account.")
        return User.read(row)


def normal(email: str) -> str:
    """An address as it is kept and compared: without spaces around it, in lower case."""
    return email.strip().lower()
