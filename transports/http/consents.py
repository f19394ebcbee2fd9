"""Consents, the copy of one's data, and leaving: what people decide about their data."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
import structlog

from infra.cursors import key_of
from infra.database.consents import Consent, Purpose, texts
from infra.database.erasure import Receipt, Unfinished, UnknownReceipt
from infra.identity.accounts import SignInRefused
from infra.money.errors import MoneyError
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.people import no_cookies, where_of
from transports.http.problems import Problem, problem_kinds, translate
from transports.recordings import forget_recordings

log = structlog.get_logger()
problem_kinds(
    {
        "erasure-unfinished": (409, "Something must end first"),
        "erasure-not-found": (404, "There is no such receipt"),
    }
)
translate(Unfinished, lambda error: Problem("erasure-unfinished", f"{Unfinished.__doc__}", {"Retry-After": "60"}))
translate(UnknownReceipt, lambda error: Problem("erasure-not-found", "There is no receipt of this id."))


class ConsentText(msgspec.Struct, frozen=True):
    """What one agrees to, word by word, by language; `version` names it in every consent."""

    purpose: str
    version: str
    text: dict[str, str]


class ConsentTexts(msgspec.Struct, frozen=True):
    """The present text of every purpose."""

    items: list[ConsentText]


class NewConsent(msgspec.Struct, forbid_unknown_fields=True):
    """A purpose, and whether one agrees to it from now on."""

    purpose: Purpose
    granted: bool


class ConsentView(msgspec.Struct, frozen=True, kw_only=True):
    """One time that somebody agreed, or took it back. Such a record is never changed."""

    id: str
    purpose: str
    granted: bool
    text_version: str
    channel: str
    ip: str | None
    at: dt.datetime


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is kept of somebody, by table."""

    user: str
    made_at: dt.datetime
    tables: dict[str, list[dict[str, Any]]]


class Leave(msgspec.Struct, forbid_unknown_fields=True):
    """The password; an account without one needs a sign-in of the last ten minutes instead."""

    password: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt of an erasure: `signature` is the Ed25519 signature, by `public_key`, of `hash`.

    `hash` is the SHA-256 of the hash of the receipt before it and of `document` as JSON with sorted names.
    """

    id: str
    requested_at: dt.datetime
    destroyed_at: dt.datetime
    rows: dict[str, int]
    key: Literal["destroyed"]
    document: dict[str, Any]
    hash: str
    signature: str
    public_key: str


@operation("GET", "/v1/consents", answers=ConsentTexts, who="public", tag="consents")
async def list_consent_texts(ask: Ask) -> ConsentTexts:
    """Read what one agrees to, by purpose and language."""
    return ConsentTexts([ConsentText(one.purpose, one.version, one.text) for one in texts().values()])


@operation("GET", "/v1/me/consents", answers=Page[ConsentView], tag="consents")
async def list_consents(ask: Ask, query: PageQuery) -> Page[ConsentView]:
    """List everything you ever agreed to or took back, newest first."""
    found = await ask.services.identity.consents.history(ask.user.user_id)
    if query.after is not None:
        beyond = key_of(query.after, dt.datetime, str)
        found = tuple(one for one in found if (one.at, one.id) < beyond)
    found = tuple(sorted(found, key=lambda one: (one.at, one.id), reverse=True))
    return page(found, query.limit, lambda one: (one.at, one.id), consent_view)


@operation("POST", "/v1/me/consents", status=201, answers=ConsentView, tag="consents")
async def give_consent(ask: Ask, body: NewConsent) -> Reply[ConsentView]:
    """Agree to something, or take it back. It holds from now on."""
    given = await ask.services.identity.accounts.consent(ask.user.user_id, body.purpose, body.granted, where_of(ask))
    return Reply(consent_view(given))


@operation("POST", "/v1/me/export", answers=Export, limit="verify", tag="privacy")
async def export_me(ask: Ask) -> Reply[Export]:
    """Get a copy of everything that is kept of you. Recordings are fetched from their calls."""
    identity, user_id = ask.services.identity, ask.user.user_id
    tables = await identity.erasures.export(user_id)
    await identity.audit.note(user_id, "account.exported", user_id)
    made = Export(user=user_id, made_at=dt.datetime.now(dt.UTC), tables=tables)
    return Reply(made, headers={"Content-Disposition": 'attachment; filename="ringdown-export.json"'})


@operation(
    "DELETE",
    "/v1/me",
    status=202,
    answers=Erasure,
    refuses=("password-wrong", "sign-in-again", "erasure-unfinished", "passwords-busy"),
    limit="auth",
    tag="privacy",
)
async def erase_me(ask: Ask, body: Leave) -> Reply[Erasure]:
    """Destroy your account: its rows are deleted, its key is destroyed, and the receipt proves it."""
    identity, user_id = ask.services.identity, ask.user.user_id
    mine = {one.id: one for one in await identity.sessions.live(user_id)}
    here = mine.get(ask.user.session_id)
    began = here.created_at if here is not None else dt.datetime.fromtimestamp(0, dt.UTC)
    try:
        await identity.accounts.may_leave(user_id, body.password, began)
    except SignInRefused as error:
        raise Problem("password-wrong", str(error), more={"field": "password"}) from error
    await forget_cards(ask, user_id)
    erased = await identity.accounts.erase(user_id)
    await forget_recordings(ask.services.settings, erased.recordings)
    return Reply(receipt_view(erased.receipt, identity.erasures.public_key), cookies=no_cookies())


@operation(
    "GET", "/v1/erasures/{erasure}", answers=Erasure, refuses=("erasure-not-found",), who="public", tag="privacy"
)
async def read_erasure(ask: Ask, erasure: str) -> Erasure:
    """Read the receipt of an erasure."""
    erasures = ask.services.identity.erasures
    return receipt_view(await erasures.receipt(erasure), erasures.public_key)


async def forget_cards(ask: Ask, user_id: str) -> None:
    """Have the card processor forget the user's cards. One that is away does not keep anybody from leaving."""
    money = ask.services.money
    try:
        for method in await money.methods(user_id):
            await money.remove_method(user_id, method.id)
    except MoneyError as error:
        log.warning("cards_left_at_the_processor", user=user_id, why=type(error).__name__)


def consent_view(consent: Consent) -> ConsentView:
    """A consent as its owner sees it."""
    return ConsentView(**{name: getattr(consent, name) for name in ConsentView.__struct_fields__})


def receipt_view(receipt: Receipt, public_key: bytes) -> Erasure:
    """A receipt as everybody sees it who holds its address."""
    told = receipt.document
    return Erasure(
        id=told["id"],
        requested_at=dt.datetime.fromisoformat(told["requested_at"]),
        destroyed_at=dt.datetime.fromisoformat(told["destroyed_at"]),
        rows=told["rows"],
        key="destroyed",
        document=told,
        hash=receipt.hash.hex(),
        signature=receipt.signature.hex(),
        public_key=public_key.hex(),
    )
