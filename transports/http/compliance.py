"""What the law and good manners ask for, over REST: do-not-call, helplines, who gets data, how long it is kept."""

from __future__ import annotations

from typing import Annotated

import msgspec

from infra.compliance.helplines import Helpline, helpline_for, helplines
from infra.compliance.retention import TABLE, Kept
from infra.compliance.subprocessors import Subprocessor, subprocessors
from transports.http.api import Ask, Page, operation
from transports.http.problems import Problem
from transports.http.schedules import Id


class OptOut(msgspec.Struct, forbid_unknown_fields=True):
    """Which of your numbers is not to be called any more."""

    number: Id


class OptedOut(msgspec.Struct, frozen=True):
    """Nobody calls this number from now on; `canceled` booked calls to it were dropped."""

    number: str
    opted_out: bool
    canceled: int


class HelplineQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Where you are."""

    country: Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{2}$", description="ISO code, such as DE")] | None = None


@operation(
    "POST", "/v1/opt-outs", status=201, answers=OptedOut, tag="compliance", refuses=("not-found",),
    example={"number": "number_0192f0c1a2b3c4d5e6f708192a3b4c5d"},
)  # fmt: skip
async def stop_calls(ask: Ask, body: OptOut) -> OptedOut:
    """Put one of your numbers on the do-not-call list, at once; what is booked for it is dropped."""
    digest = await _digest(ask, body.number)
    return OptedOut(body.number, True, await ask.services.opt_outs.stop(digest, "web"))


@operation("GET", "/v1/helplines", answers=Page[Helpline], who="public", tag="compliance")
async def list_helplines(ask: Ask, query: HelplineQuery) -> Page[Helpline]:
    """Whom to turn to in a crisis: in one country, or in all that we know."""
    if query.country is not None:
        return Page([helpline_for(query.country)])
    return Page(sorted(helplines().values(), key=lambda line: line.country or "~"))


@operation("GET", "/v1/subprocessors", answers=Page[Subprocessor], who="public", tag="compliance")
async def list_subprocessors(ask: Ask) -> Page[Subprocessor]:
    """Who else gets data: the companies behind the parts that are switched on here."""
    return Page(list(subprocessors(ask.services.settings)))


@operation("GET", "/v1/retention", answers=Page[Kept], who="public", tag="compliance")
async def list_retention(ask: Ask) -> Page[Kept]:
    """How long what is kept."""
    return Page(list(TABLE))


async def _digest(ask: Ask, number_id: str) -> bytes:
    digest = await ask.services.opt_outs.digest_of(ask.user.user_id, number_id)
    if digest is None:
        raise Problem("not-found", "There is no such number. GET /v1/numbers lists yours.")
    return digest
