"""Accounts as a resource: opening one, oneself, proving the address, passwords, the second factor."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from infra.database.codes import CodeWrong
from infra.database.users import UnknownUser
from infra.identity.accounts import (
    AlreadyProven,
    FactorState,
    NotRecent,
    SecondFactorNeeded,
    SecondFactorWrong,
    SignInRefused,
)
from infra.identity.passwords import TooManyAtOnce, WeakPassword
from infra.zones import UnknownZone, zone_of
from transports.http.api import Ask, Reply, operation
from transports.http.people import (
    Email,
    Name,
    NewPassword,
    Password,
    SessionView,
    SixDigits,
    UserView,
    begun,
    view_of,
    where_of,
)
from transports.http.problems import Problem, problem_kinds, translate

problem_kinds(
    {
        "sign-in-refused": (401, "Address and password do not belong together"),
        "second-factor-needed": (401, "The code of the authenticator app is needed"),
        "second-factor-wrong": (401, "The code of the authenticator app is wrong"),
        "password-wrong": (403, "The password is wrong"),
        "sign-in-again": (403, "Sign in again for this"),
        "email-proven": (409, "The address is proven already"),
        "factor-state": (409, "The second factor is not as this needs it"),
        "weak-password": (422, "The password is too weak"),
        "code-wrong": (422, "The code is wrong"),
        "unknown-zone": (422, "There is no such time zone"),
        "service-consent-needed": (422, "The service needs your consent"),
        "passwords-busy": (503, "Too many sign-ins at once"),
    }
)
translate(SignInRefused, lambda error: Problem("sign-in-refused", str(error)))
translate(SecondFactorNeeded, lambda error: Problem("second-factor-needed", str(error)))
translate(SecondFactorWrong, lambda error: Problem("second-factor-wrong", f"{SecondFactorWrong.__doc__}"))
translate(NotRecent, lambda error: Problem("sign-in-again", str(error)))
translate(AlreadyProven, lambda error: Problem("email-proven", str(error)))
translate(FactorState, lambda error: Problem("factor-state", str(error)))
translate(WeakPassword, lambda error: Problem("weak-password", f"{error} Choose another.", more={"field": "password"}))
translate(CodeWrong, lambda error: Problem("code-wrong", f"{error} Check it, or ask for a new one."))
translate(UnknownZone, lambda error: Problem("unknown-zone", str(error), more={"field": "zone"}))
translate(TooManyAtOnce, lambda error: Problem("passwords-busy", "Try again in a moment.", {"Retry-After": "1"}))
translate(UnknownUser, lambda error: Problem("not-authorised", "Sign in again.", {"WWW-Authenticate": "Bearer"}))

Zone = Annotated[str, msgspec.Meta(max_length=64, description="an IANA name such as Europe/Berlin")]
Language = Literal["en", "tr", "ko"]
Days = Annotated[int, msgspec.Meta(ge=1, le=90, description="how long transcripts are kept")]


class NewConsents(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody agrees to when they open an account; the first is needed."""

    service: bool
    calls: bool = False
    transcripts: bool = False
    recording: bool = False


class NewAccount(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An account to open. `adult`: they say that they are 18 or older; without it nobody is called."""

    email: Email
    password: NewPassword
    adult: bool
    consents: NewConsents
    name: Name = ""
    zone: Zone = "UTC"
    language: Language = "en"


class Changes(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to change of oneself."""

    name: Name | None = None
    zone: Zone | None = None
    language: Language | None = None
    transcript_days: Days | None = None


class Code(msgspec.Struct, forbid_unknown_fields=True):
    """A code that was sent to somebody."""

    code: SixDigits


class ForgottenPassword(msgspec.Struct, forbid_unknown_fields=True):
    """Whose password is forgotten."""

    email: Email


class ResetPassword(msgspec.Struct, forbid_unknown_fields=True):
    """The token from the letter, and the password to set."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    password: NewPassword


class ChangePassword(msgspec.Struct, forbid_unknown_fields=True):
    """The password that is, and the one to be."""

    current: Password
    new: NewPassword


class OfferedFactor(msgspec.Struct, frozen=True):
    """A secret for an authenticator app; `uri` is what its QR code holds. Both are shown once."""

    secret: str
    uri: str


class DropFactor(msgspec.Struct, forbid_unknown_fields=True):
    """Password and code, which remove the second factor."""

    password: Password
    code: SixDigits


@operation(
    "POST",
    "/v1/accounts",
    status=201,
    answers=SessionView,
    refuses=("weak-password", "unknown-zone", "service-consent-needed", "passwords-busy"),
    who="public",
    limit="auth",
)
async def open_account(ask: Ask, body: NewAccount) -> Reply[SessionView]:
    """Open an account and sign in to it.

    A code that proves the address is written to it. An address that another account has proven gives a new account all
    the same, which can never prove it: so nobody learns from the answer who has an account.
    """
    if not body.consents.service:
        detail = "Without this consent there can be no account."
        raise Problem("service-consent-needed", detail, more={"field": "consents.service"})
    zone_of(body.zone)
    given = body.consents
    agreed = {"service": True, "calls": given.calls, "transcripts": given.transcripts, "recording": given.recording}
    user, opened = await ask.services.identity.accounts.register(
        body.email,
        body.password,
        where=where_of(ask),
        name=body.name,
        zone=body.zone,
        language=body.language,
        adult=body.adult,
        agreed={purpose: True for purpose, granted in agreed.items() if granted},  # type: ignore[misc]
    )
    return await begun(ask, user, opened)


@operation("GET", "/v1/me", answers=UserView, tag="accounts")
async def read_me(ask: Ask) -> UserView:
    """Read your own account."""
    return await view_of(ask, await ask.services.identity.users.get(ask.user.user_id))


@operation("PATCH", "/v1/me", answers=UserView, refuses=("unknown-zone",), tag="accounts")
async def change_me(ask: Ask, body: Changes) -> UserView:
    """Change your name, time zone, language, or how long transcripts are kept."""
    if body.zone is not None:
        zone_of(body.zone)
    user = await ask.services.identity.users.change(
        ask.user.user_id,
        name=body.name,
        zone=body.zone,
        language=body.language,
        transcript_days=body.transcript_days,
    )
    return await view_of(ask, user)


@operation("POST", "/v1/me/adult", answers=UserView, tag="accounts")
async def attest_adult(ask: Ask) -> UserView:
    """Say that you are 18 or older."""
    return await view_of(ask, await ask.services.identity.accounts.attest(ask.user.user_id, where_of(ask)))


@operation("POST", "/v1/email-codes", status=202, refuses=("email-proven",), limit="verify", tag="accounts")
async def send_email_code(ask: Ask) -> Reply[None]:
    """Have a code sent that proves your address; it is valid for 30 minutes and takes 5 tries."""
    await ask.services.identity.accounts.send_email_code(ask.user.user_id)
    return Reply()


@operation(
    "POST",
    "/v1/email-codes/verify",
    answers=UserView,
    refuses=("code-wrong",),
    limit="verify",
    example={"code": "123456"},
    tag="accounts",
)
async def prove_email(ask: Ask, body: Code) -> UserView:
    """Prove your address by the code that was sent to it."""
    return await view_of(ask, await ask.services.identity.accounts.prove_email(ask.user.user_id, body.code))


@operation("POST", "/v1/password-resets", status=202, who="public", limit="auth", tag="accounts")
async def ask_reset(ask: Ask, body: ForgottenPassword) -> Reply[None]:
    """Have a letter sent with a link that sets a new password; the answer is the same whether there is an account."""
    ask.services.identity.accounts.ask_reset(body.email)
    return Reply()


@operation(
    "POST",
    "/v1/password-resets/complete",
    status=204,
    refuses=("code-wrong", "weak-password", "passwords-busy"),
    who="public",
    limit="auth",
    tag="accounts",
)
async def reset_password(ask: Ask, body: ResetPassword) -> Reply[None]:
    """Set a new password by the token from the letter, once; every session ends."""
    await ask.services.identity.accounts.reset(body.token, body.password)
    return Reply()


@operation(
    "PUT",
    "/v1/me/password",
    status=204,
    refuses=("password-wrong", "weak-password", "passwords-busy"),
    limit="auth",
    tag="accounts",
)
async def change_password(ask: Ask, body: ChangePassword) -> Reply[None]:
    """Set another password; every other session ends."""
    try:
        await ask.services.identity.accounts.change_password(
            ask.user.user_id, ask.user.session_id, body.current, body.new
        )
    except SignInRefused as error:
        raise Problem("password-wrong", str(error), more={"field": "current"}) from error
    return Reply()


@operation("POST", "/v1/me/second-factor", status=201, answers=OfferedFactor, refuses=("factor-state",), tag="accounts")
async def offer_factor(ask: Ask) -> OfferedFactor:
    """Get a secret for an authenticator app; it counts once confirmed."""
    return OfferedFactor(*await ask.services.identity.accounts.offer_factor(ask.user.user_id))


@operation(
    "POST",
    "/v1/me/second-factor/confirm",
    status=204,
    refuses=("factor-state", "second-factor-wrong"),
    limit="verify",
    tag="accounts",
)
async def confirm_factor(ask: Ask, body: Code) -> Reply[None]:
    """Confirm the second factor by a code of the app; from now on every sign-in needs one."""
    await ask.services.identity.accounts.confirm_factor(ask.user.user_id, body.code)
    return Reply()


@operation(
    "DELETE",
    "/v1/me/second-factor",
    status=204,
    refuses=("factor-state", "password-wrong", "second-factor-wrong", "passwords-busy"),
    limit="verify",
    tag="accounts",
)
async def drop_factor(ask: Ask, body: DropFactor) -> Reply[None]:
    """Sign in by the password alone again."""
    try:
        await ask.services.identity.accounts.drop_factor(ask.user.user_id, body.password, body.code)
    except SignInRefused as error:
        raise Problem("password-wrong", str(error), more={"field": "password"}) from error
    return Reply()
