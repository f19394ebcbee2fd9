"""Which account a person is who signed in by another's word (COM-25).

The word counts for the account it was linked with. It is linked with the account that has proven the address which the
provider has verified; an account that merely named the address gets nothing, since anybody may have opened it.
"""

from __future__ import annotations

from asyncpg import Pool, UniqueViolationError

from infra.database.audit import Audit
from infra.database.queries import load
from infra.database.sessions import Opened, SessionStore
from infra.database.users import EmailTaken, User, Users
from infra.identity.accounts import Accounts, Where
from infra.identity.oidc import Person
from infra.ids import new_id

_SQL = load("identities", "find", "link")
TRIES = 2  # a second request of the same person, at the same moment, makes one of both fail


class Linking:
    """Opens sessions, and accounts where there is none."""

    def __init__(self, pool: Pool, users: Users, sessions: SessionStore, accounts: Accounts) -> None:
        self._pool, self._users, self._sessions, self._accounts = pool, users, sessions, accounts
        self._audit = Audit(pool)

    async def sign_in(self, person: Person, where: Where) -> tuple[User, Opened]:
        """A session of the person's account, which is opened if need be."""
        tries = 0
        while True:
            tries += 1
            try:
                return await self._sign_in(person, where)
            except (UniqueViolationError, EmailTaken):
                if tries == TRIES:
                    raise

    async def _sign_in(self, person: Person, where: Where) -> tuple[User, Opened]:
        method = f"oidc:{person.provider}"
        owner: str | None = await self._pool.fetchval(_SQL.find, person.issuer, person.subject)
        if owner is not None:
            user = await self._users.get(owner)
            return user, await self._sessions.open(owner, method, ip=where.ip, agent=where.agent)
        known = await self._users.by_email(person.email) if person.email else None
        async with self._pool.acquire() as connection, connection.transaction():
            if known is None:
                user, opened = await self._accounts.admit(
                    person.email, method=method, name=person.name, where=where, database=connection
                )
            else:
                user = known
                opened = await self._sessions.open(user.id, method, ip=where.ip, agent=where.agent, database=connection)
            values = (new_id("identity"), user.id, person.provider, person.issuer, person.subject, person.email)
            await connection.execute(_SQL.link, *values)  # refused when another request was first: all is undone
            context = {"provider": person.provider}
            await self._audit.note(user.id, "identity.linked", user.id, context, database=connection)
        return user, opened
