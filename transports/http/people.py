"""What the resources of accounts share: who the user is to the outside, where a request came from, the cookies."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from typing import Annotated

import msgspec

from infra.database.sessions import Opened
from infra.database.users import User
from infra.identity.accounts import Where
from transports.http.access import ACCESS_COOKIE, CSRF_COOKIE, REFRESH_COOKIE
from transports.http.api import Ask, Cookie, Reply

SESSIONS = "/v1/sessions"
EMAIL = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,186}[A-Za-z0-9])?$"
PASSWORD = "four dull words of mine"  # noqa: S105 - an example
Email = Annotated[
    str, msgspec.Meta(pattern=EMAIL, max_length=254, description="an e-mail address", examples=["ada@example.com"])
]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=[PASSWORD])]
NewPassword = Annotated[
    str,
    msgspec.Meta(min_length=10, max_length=200, description="what is guessed first is refused", examples=[PASSWORD]),
]
Name = Annotated[str, msgspec.Meta(max_length=60)]
SixDigits = Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$", description="six digits", examples=["123456"])]


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody with an account, as they see themselves."""

    id: str
    email: str | None
    email_verified: bool
    name: str
    zone: str
    language: str
    adult: bool
    role: str
    second_factor: bool
    transcript_days: int
    consents: dict[str, bool]
    created_at: dt.datetime


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session that has begun or goes on; its tokens are shown once."""

    access_token: str
    expires_in: int
    refresh_token: str
    user: UserView


async def view_of(ask: Ask, user: User) -> UserView:
    """The user as they see themselves."""
    return UserView(
        id=user.id,
        email=user.email,
        email_verified=user.email_verified_at is not None,
        name=user.name,
        zone=user.zone,
        language=user.language,
        adult=user.adult_at is not None,
        role=user.role,
        second_factor=user.totp_at is not None,
        transcript_days=user.transcript_days,
        consents=await ask.services.identity.consents.holding(user.id),
        created_at=user.created_at,
    )


async def begun(ask: Ask, user: User, opened: Opened) -> Reply[SessionView]:
    """The answer with a session's tokens, for programs in the body and for the console in cookies."""
    view = SessionView(
        access_token=opened.access_token,
        expires_in=opened.access_seconds,
        refresh_token=opened.refresh_token,
        user=await view_of(ask, user),
    )
    return Reply(view, cookies=cookies_of(opened))


def cookies_of(opened: Opened) -> tuple[Cookie, ...]:
    """The console's cookies; scripts may read the CSRF token alone."""
    left = max(1, int((opened.session.expires_at - dt.datetime.now(dt.UTC)).total_seconds()))
    return (
        Cookie(ACCESS_COOKIE, opened.access_token, opened.access_seconds),
        Cookie(REFRESH_COOKIE, opened.refresh_token, left, SESSIONS),
        Cookie(CSRF_COOKIE, secrets.token_urlsafe(18), left, http_only=False),
    )


def no_cookies() -> tuple[Cookie, ...]:
    """The console's cookies removed."""
    return Cookie.gone(ACCESS_COOKIE), Cookie.gone(REFRESH_COOKIE, SESSIONS), Cookie.gone(CSRF_COOKIE)


def where_of(ask: Ask) -> Where:
    """Where the request came from."""
    headers = ask.request.headers
    try:
        ip: str | None = str(ipaddress.ip_address(ask.ip))
    except ValueError:  # a proxy that says something else
        ip = None
    # Browsers say this of requests that a page of ours makes; programs do not.
    channel = "web" if headers.get("Sec-Fetch-Site") == "same-origin" else "api"
    agent = headers.get("User-Agent", "").encode("ascii", "replace").decode().replace("\0", "")
    return Where("web" if channel == "web" else "api", ip, agent[:200])
