"""Contacts as a resource: the personas that somebody keeps at hand, in their order."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from infra.cursors import key_of
from infra.database.contacts import LIMIT, ContactLimit, NoContact, OrderDiffers
from transports.http.api import ID, Ask, Page, PageQuery, Reply, operation, page
from transports.http.personas import PersonaView, persona_view
from transports.http.problems import Problem, problem_kinds, translate

problem_kinds(
    {
        "contact-not-found": (404, "The persona is no contact"),
        "contact-limit": (409, "There are too many contacts"),
        "contacts-differ": (409, "The order does not fit the contacts"),
    }
)
translate(ContactLimit, lambda error: Problem("contact-limit", str(error)))
translate(OrderDiffers, lambda error: Problem("contacts-differ", str(error)))
translate(NoContact, lambda _: Problem("contact-not-found", "The persona is no contact of yours. GET /v1/contacts."))


class ContactView(msgspec.Struct, frozen=True):
    """A persona kept at hand; the one at position 1 is called where none is named."""

    persona: PersonaView
    position: int


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """The ids of all your contacts, in the order they are to have."""

    order: Annotated[list[Annotated[str, Meta(pattern=f"^{ID}$")]], Meta(max_length=LIMIT)]


@operation("GET", "/v1/contacts", answers=Page[ContactView])
async def list_contacts(ask: Ask, query: PageQuery) -> Page[ContactView]:
    """List your contacts in their order."""
    rows = list(enumerate(await ask.services.contacts.all(ask.user.user_id), 1))
    first = 0
    if query.after is not None:
        (last,) = key_of(query.after, int)
        assert isinstance(last, int)
        first = max(last, 0)
    shown = rows[first : first + query.limit + 1]
    return page(shown, query.limit, lambda row: (row[0],), lambda row: ContactView(persona_view(row[1]), row[0]))


@operation(
    "PUT",
    "/v1/contacts/{persona}",
    status=204,
    refuses=("persona-not-found", "contact-limit"),
)
async def keep_contact(ask: Ask, persona: str) -> Reply[None]:
    """Keep a persona at hand, after the others. One who is kept already stays where they are."""
    await ask.services.contacts.add(ask.user.user_id, persona)
    return Reply()


@operation("DELETE", "/v1/contacts/{persona}", status=204, refuses=("contact-not-found",))
async def drop_contact(ask: Ask, persona: str) -> Reply[None]:
    """Keep a persona at hand no longer; the persona itself stays."""
    await ask.services.contacts.remove(ask.user.user_id, persona)
    return Reply()


@operation("PUT", "/v1/contacts", status=204, refuses=("contacts-differ",), example={"order": []})
async def order_contacts(ask: Ask, body: Order) -> Reply[None]:
    """Put your contacts into another order, naming each of them once."""
    await ask.services.contacts.reorder(ask.user.user_id, body.order)
    return Reply()
