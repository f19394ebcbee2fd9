"""Sessions: signed in on one device, by access tokens of minutes and refresh tokens that each work once (COM-26).

A session ends when it was not used for ACCOUNTS_SESSION_DAYS, ACCOUNTS_REFRESH_DAYS after it began, when somebody ends
it, or when a refresh token comes back that was used before: then it was copied, and nobody can say by whom, so the
session ends for both holders. PostgreSQL is the truth; what it said is believed for less than a second, so an end is
known on every node within one.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from asyncpg import Pool

from infra.database.audit import Audit
from infra.database.call_records import Row
from infra.database.pool import Database
from infra.database.queries import load
from infra.identity.principal import Principal
from infra.identity.tokens import TokenRefused, Tokens, fingerprint, random_token
from infra.ids import new_id
from infra.settings import Accounts

_SQL = load("sessions", "open", "rotate", "reused", "standing", "live", "end", "end_all", "of_refresh")
BELIEVED_SECONDS = 0.8
BELIEVED_SESSIONS = 20_000
OPERATORS = frozenset({"operator", "owner"})

log = structlog.get_logger()


class Session(Row, frozen=True, kw_only=True):
    """Somebody signed in somewhere."""

    id: str
    owner: str
    method: str
    second_factor: bool
    ip: str | None
    agent: str
    created_at: dt.datetime
    used_at: dt.datetime
    idle_until: dt.datetime
    expires_at: dt.datetime
    ended_at: dt.datetime | None
    ended_why: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session with the tokens that prove it, which are shown once."""

    session: Session
    access_token: str
    access_seconds: int
    refresh_token: str


class RefreshRefused(Exception):
    """The refresh token is unknown, expired, or its session is over. Sign in again."""


class RefreshReused(RefreshRefused):
    """The refresh token was used before, so somebody has copied it; its session has been ended. Sign in again."""


@dataclass(frozen=True, slots=True)
class _Standing:
    owner: str
    second_factor: bool
    role: str
    epoch: int
    until: float


class SessionStore:
    """Opens, proves and ends sessions.

    Args:
        clock: seconds that only go forward, for how long an answer of the database is believed.
    """

    def __init__(self, pool: Pool, tokens: Tokens, told: Accounts, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._tokens, self._clock = pool, tokens, clock
        self._idle = dt.timedelta(days=told.session_days)
        self._life = dt.timedelta(days=told.refresh_days)
        self._audit = Audit(pool)
        self._believed: OrderedDict[str, _Standing] = OrderedDict()

    async def open(
        self,
        owner: str,
        method: str,
        *,
        ip: str | None = None,
        agent: str = "",
        second_factor: bool = False,
        database: Database | None = None,
    ) -> Opened:
        """Somebody has proven who they are, by `method` (`password`, `oidc:google`, ...)."""
        refresh = random_token("refresh")
        values = (new_id("session"), owner, method, second_factor, ip, agent[:200], self._idle, self._life)
        row = await (database or self._pool).fetchrow(_SQL.open, *values, fingerprint(refresh))
        assert row is not None
        return self._opened(Session.read(row), row["token_epoch"], refresh)

    async def refresh(self, token: str) -> Opened:
        """New tokens for an old refresh token, which works no more.

        Raises:
            RefreshReused: it had been used; the session is over.
            RefreshRefused
        """
        fresh = random_token("refresh")
        row = await self._pool.fetchrow(_SQL.rotate, fingerprint(token), fingerprint(fresh), self._idle)
        if row is not None:
            return self._opened(Session.read(row), row["token_epoch"], fresh)
        ended = await self._pool.fetchrow(_SQL.reused, fingerprint(token))
        if ended is None:
            raise RefreshRefused("The refresh token is not valid.")
        self._believed.pop(ended["id"], None)
        log.warning("refresh_token_reused", session=ended["id"])
        await self._audit.note("server", "session.reused", ended["owner"], {"session": ended["id"]})
        raise RefreshReused("The refresh token was used before.")

    async def authenticate(self, access_token: str) -> Principal | None:
        """Whom the token proves; None when it is malformed, expired or revoked.

        Staff act as staff only in a session that was opened with a second factor.
        """
        try:
            claims = self._tokens.read(access_token)
        except TokenRefused:
            return None
        standing = await self._standing(claims.session)
        if standing is None or (standing.owner, standing.epoch) != (claims.subject, claims.epoch):
            return None
        operator = standing.role in OPERATORS and standing.second_factor
        return Principal(claims.subject, "operator" if operator else "user", claims.session)

    async def end(self, owner: str, session: str, why: str = "signed_out") -> bool:
        """End one session of the owner's; False if there was none to end."""
        ended = await self._pool.fetchval(_SQL.end, owner, session, why)
        self._believed.pop(session, None)
        return ended is not None

    async def end_all(
        self, owner: str, why: str, *, spare: str | None = None, database: Database | None = None
    ) -> tuple[str, ...]:
        """End every session of the owner's but `spare`; their ids."""
        rows = await (database or self._pool).fetch(_SQL.end_all, owner, why, spare)
        self.forget(owner)
        return tuple(row["id"] for row in rows)

    async def of_refresh(self, token: str) -> tuple[str, str] | None:
        """Owner and session of a refresh token, used or not."""
        row = await self._pool.fetchrow(_SQL.of_refresh, fingerprint(token))
        return None if row is None else (row["owner"], row["id"])

    async def live(self, owner: str) -> tuple[Session, ...]:
        """Where somebody is signed in, newest first."""
        return tuple(Session.read(row) for row in await self._pool.fetch(_SQL.live, owner))

    def forget(self, owner: str) -> None:
        """Believe nothing more about the owner's sessions until the database is asked."""
        for session in [session for session, known in self._believed.items() if known.owner == owner]:
            del self._believed[session]

    async def _standing(self, session: str) -> _Standing | None:
        known = self._believed.get(session)
        asked = self._clock()
        if known is not None and known.until > asked:
            return known
        row = await self._pool.fetchrow(_SQL.standing, session)
        if row is None:
            self._believed.pop(session, None)
            return None
        found = _Standing(row["owner"], row["second_factor"], row["role"], row["token_epoch"], asked + BELIEVED_SECONDS)
        self._believed[session] = found
        while len(self._believed) > BELIEVED_SESSIONS:
            self._believed.popitem(last=False)
        return found

    def _opened(self, session: Session, epoch: int, refresh: str) -> Opened:
        access = self._tokens.issue(session.owner, session.id, epoch)
        return Opened(session, access, self._tokens.seconds, refresh)
