"""Phone numbers as a resource: add one, prove it by a code, remove it, allow calls to it again."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from infra.cursors import key_of
from infra.database.numbers import Number, NumberLimit, NumberRefused, NumberTaken, UnknownNumber
from infra.telephony.verify import CodesSpent
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.problems import Problem, problem_kinds, translate

problem_kinds(
    {
        "number-not-found": (404, "There is no such number"),
        "number-taken": (409, "The number is another account's"),
        "number-limit": (409, "There are too many numbers or codes"),
        "number-refused": (422, "The number cannot be used"),
        "code-wrong": (422, "The code is wrong"),
    }
)
translate(UnknownNumber, lambda error: Problem("number-not-found", "There is no number of this id. GET /v1/numbers."))
translate(NumberTaken, lambda error: Problem("number-taken", f"{NumberTaken.__doc__}"))
translate(NumberLimit, lambda error: Problem("number-limit", f"{NumberLimit.__doc__}"))
translate(CodesSpent, lambda error: Problem("number-limit", f"{CodesSpent.__doc__}"))
translate(NumberRefused, lambda error: Problem("number-refused", str(error), more={"field": "number"}))


class NewNumber(msgspec.Struct, forbid_unknown_fields=True):
    """A number with its country code; spaces, hyphens and brackets do no harm."""

    number: Annotated[str, msgspec.Meta(min_length=7, max_length=30, pattern=r"^\+[0-9 ().-]+$")]


class NumberCode(msgspec.Struct, forbid_unknown_fields=True):
    """The code that was sent to a number."""

    code: Annotated[str, msgspec.Meta(pattern="^[0-9]{4,10}$", description="4 to 10 digits")]


class NumberView(msgspec.Struct, frozen=True, kw_only=True):
    """A number of yours. `primary` is called where none is named; nobody calls one that is not verified."""

    id: str
    number: str
    country: str
    verified_at: dt.datetime | None
    primary: bool
    opted_out: bool
    created_at: dt.datetime


@operation("GET", "/v1/numbers", answers=Page[NumberView])
async def list_numbers(ask: Ask, query: PageQuery) -> Page[NumberView]:
    """List your numbers, the oldest first."""
    found = await ask.services.identity.numbers.list(ask.user.user_id)
    found = tuple(sorted(found, key=lambda one: (one.created_at, one.id)))
    if query.after is not None:
        beyond = key_of(query.after, dt.datetime, str)
        found = tuple(one for one in found if (one.created_at, one.id) > beyond)
    views = {one.id: await number_view(ask, one) for one in found[: query.limit]}
    return page(found, query.limit, lambda one: (one.created_at, one.id), lambda one: views[one.id])


@operation(
    "POST",
    "/v1/numbers",
    status=201,
    answers=NumberView,
    refuses=("number-refused", "number-limit", "carrier-down", "carrier-busy"),
    limit="verify",
    idempotent=True,
    example={"number": "+15550177001"},
)
async def add_number(ask: Ask, body: NewNumber) -> Reply[NumberView]:
    """Have a code sent to a number, to prove that it is yours. To add it again sends the code again."""
    identity = ask.services.identity
    user = await identity.users.get(ask.user.user_id)
    number = await identity.numbers.add(user.id, body.number, user.language)
    return Reply(await number_view(ask, number), headers={"Location": f"/v1/numbers/{number.id}"})


@operation("GET", "/v1/numbers/{number}", answers=NumberView, refuses=("number-not-found",))
async def read_number(ask: Ask, number: str) -> NumberView:
    """Read one of your numbers."""
    return await number_view(ask, await ask.services.identity.numbers.get(ask.user.user_id, number))


@operation(
    "POST",
    "/v1/numbers/{number}/verify",
    answers=NumberView,
    refuses=("number-not-found", "code-wrong", "number-taken", "number-limit", "carrier-down", "carrier-busy"),
    limit="verify",
    example={"code": "123456"},
)
async def verify_number(ask: Ask, number: str, body: NumberCode) -> NumberView:
    """Prove a number by the code that was sent to it: within 10 minutes, in 5 tries."""
    return await number_view(ask, await ask.services.identity.numbers.verify(ask.user.user_id, number, body.code))


@operation("DELETE", "/v1/numbers/{number}", status=204, refuses=("number-not-found",))
async def remove_number(ask: Ask, number: str) -> Reply[None]:
    """Remove a number; calls that are booked for it will not be made."""
    await ask.services.identity.numbers.remove(ask.user.user_id, number)
    return Reply()


@operation(
    "POST",
    "/v1/numbers/{number}/opt-in",
    answers=NumberView,
    refuses=("number-not-found",),
)
async def allow_number(ask: Ask, number: str) -> NumberView:
    """Allow calls to your proven number again after somebody there asked for none."""
    return await number_view(ask, await ask.services.identity.numbers.allow_again(ask.user.user_id, number))


async def number_view(ask: Ask, number: Number) -> NumberView:
    """A number as its owner sees it."""
    numbers = ask.services.identity.numbers
    primary = await numbers.primary(number.owner)
    return NumberView(
        id=number.id,
        number=await numbers.written(number),
        country=number.country,
        verified_at=number.verified_at,
        primary=primary is not None and primary.id == number.id,
        opted_out=await numbers.stopped(number),
        created_at=number.created_at,
    )
