"""Sessions as a resource: sign in, refresh, see where one is signed in, sign out."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from infra.cursors import key_of
from infra.database.sessions import RefreshRefused, Session
from infra.database.users import normal
from transports.http.access import REFRESH_COOKIE, require_csrf
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.people import Email, Password, SessionView, SixDigits, begun, no_cookies, where_of
from transports.http.problems import Problem, problem_kinds, translate
from transports.http.serving import refuse_excess

problem_kinds(
    {
        "refresh-refused": (401, "The refresh token is not valid"),
        "session-not-found": (404, "There is no such session"),
    }
)
translate(RefreshRefused, lambda error: Problem("refresh-refused", f"{error} Sign in again: POST /v1/sessions."))


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """Who signs in; `code` is the authenticator app's, where the account asks for one."""

    email: Email
    password: Password
    code: SixDigits | None = None


class Refresh(msgspec.Struct, forbid_unknown_fields=True):
    """The refresh token; the console leaves it out and sends its cookie with the CSRF header."""

    refresh_token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """One place where somebody is signed in."""

    id: str
    current: bool
    method: str
    second_factor: bool
    ip: str | None
    agent: str
    created_at: dt.datetime
    seen_at: dt.datetime
    expires_at: dt.datetime


@operation(
    "POST",
    "/v1/sessions",
    status=201,
    answers=SessionView,
    refuses=("sign-in-refused", "second-factor-needed", "second-factor-wrong", "passwords-busy"),
    who="public",
    limit="auth",
)
async def sign_in(ask: Ask, body: SignIn) -> Reply[SessionView]:
    """Sign in by e-mail address and password."""
    identity = ask.services.identity
    # Whoever guesses one account's password from many addresses is held up, too.
    account = identity.vault.digest("sign-in", normal(body.email)).hex()[:32]
    refuse_excess(await ask.services.limiter.take("auth", "sign-in", account, ask.ip))
    user, opened = await identity.accounts.sign_in(body.email, body.password, body.code, where=where_of(ask))
    return await begun(ask, user, opened)


@operation(
    "POST", "/v1/sessions/refresh", answers=SessionView, refuses=("refresh-refused",), who="public", limit="auth"
)
async def refresh_session(ask: Ask, body: Refresh) -> Reply[SessionView]:
    """Get new tokens for a refresh token, which works once.

    A refresh token that comes back after it was used has been copied: its session ends, for whoever holds it.
    """
    token = body.refresh_token
    if token is None:
        token = ask.request.cookies.get(REFRESH_COOKIE, "")
        require_csrf(ask.request)
    identity = ask.services.identity
    opened = await identity.sessions.refresh(token)
    return await begun(ask, await identity.users.get(opened.session.owner), opened)


@operation("GET", "/v1/sessions", answers=Page[SignedIn])
async def list_sessions(ask: Ask, query: PageQuery) -> Page[SignedIn]:
    """List where you are signed in, newest first."""
    found = await ask.services.identity.sessions.live(ask.user.user_id)
    if query.after is not None:
        beyond = key_of(query.after, dt.datetime, str)
        found = tuple(one for one in found if (one.created_at, one.id) < beyond)

    def view(one: Session) -> SignedIn:
        return SignedIn(
            id=one.id,
            current=one.id == ask.user.session_id,
            method=one.method,
            second_factor=one.second_factor,
            ip=one.ip,
            agent=one.agent,
            created_at=one.created_at,
            seen_at=one.used_at,
            expires_at=min(one.idle_until, one.expires_at),
        )

    return page(found, query.limit, lambda one: (one.created_at, one.id), view)


@operation("DELETE", "/v1/sessions/current", status=204)
async def sign_out(ask: Ask) -> Reply[None]:
    """Sign out here."""
    await ask.services.identity.sessions.end(ask.user.user_id, ask.user.session_id)
    return Reply(cookies=no_cookies())


@operation("DELETE", "/v1/sessions/{session}", status=204, refuses=("session-not-found",))
async def end_session(ask: Ask, session: str) -> Reply[None]:
    """Sign out somewhere else."""
    if not await ask.services.identity.sessions.end(ask.user.user_id, session, "revoked"):
        raise Problem("session-not-found", "There is no session of this id. GET /v1/sessions lists yours.")
    return Reply(cookies=no_cookies() if session == ask.user.session_id else ())


@operation("DELETE", "/v1/sessions", status=204)
async def sign_out_everywhere(ask: Ask) -> Reply[None]:
    """Sign out everywhere, here included."""
    await ask.services.identity.accounts.leave_everywhere(ask.user.user_id)
    return Reply(cookies=no_cookies())
