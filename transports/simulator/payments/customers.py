"""Customers and their cards: https://docs.stripe.com/api/customers, /api/payment_methods"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .cards import NUMBERS, Card, adds_up
from .errors import Thing, declined, invalid, no_such
from .params import PAGE, Anything, Choice, Group, Metadata, Shape, Span, Text, Whole, Words, merged, missing, refused
from .store import Store

_YEARS_AHEAD = 5
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_ADDRESS: Final = Group(
    {name: Text(clearable=True) for name in ("city", "country", "line1", "line2", "postal_code", "state")},
    clearable=True,
)
_BILLING: Final = Group(
    {
        "address": _ADDRESS,
        "email": Text(clearable=True),
        "name": Text(clearable=True),
        "phone": Text(clearable=True),
        **refused("tax_id"),
    }
)
_CUSTOMER: Final[Shape] = {
    "address": _ADDRESS,
    "description": Text(clearable=True),
    "email": Text(most=512, clearable=True),
    "invoice_settings": Group(
        {
            "default_payment_method": Text(clearable=True),
            **refused("custom_fields", "footer", "rendering_options"),
        }
    ),
    "metadata": Metadata(),
    "name": Text(most=256, clearable=True),
    "phone": Text(most=20, clearable=True),
    "preferred_locales": Words(),
    "shipping": Anything(),
    "tax_exempt": Choice(("exempt", "none", "reverse"), clearable=True),
    **refused(
        "balance",
        "business_name",
        "cash_balance",
        "individual_name",
        "invoice_prefix",
        "next_invoice_sequence",
        "source",
        "tax",
        "validate",
    ),
}
CUSTOMER_CREATE: Final[Shape] = {
    **_CUSTOMER,
    "payment_method": Text(most=255),
    **refused("tax_id_data", "test_clock"),
}
CUSTOMER_UPDATE: Final[Shape] = {**_CUSTOMER, **refused("default_source")}
CUSTOMER_LIST: Final[Shape] = {**PAGE, "created": Span(), "email": Text(most=512), **refused("test_clock")}
_EXPIRY: Final[Shape] = {
    "exp_month": Whole(least=1, most=12),
    "exp_year": Whole(least=0, most=9999),
}
METHOD_DATA: Final[Shape] = {
    "allow_redisplay": Choice(("always", "limited", "unspecified")),
    "billing_details": _BILLING,
    "card": Group(
        {**_EXPIRY, "cvc": Text(most=4), "number": Text(most=30), "token": Text(most=255), **refused("networks")}
    ),
    "metadata": Metadata(),
    "type": Choice(("card",), required=True),
}
METHOD_CREATE: Final[Shape] = {**METHOD_DATA, **refused("customer", "payment_method")}
METHOD_UPDATE: Final[Shape] = {
    "allow_redisplay": Choice(("always", "limited", "unspecified")),
    "billing_details": _BILLING,
    "card": Group({**_EXPIRY, **refused("networks")}),
    "metadata": Metadata(),
    **refused("us_bank_account"),
}
THEIR_METHODS: Final[Shape] = {
    **PAGE,
    "allow_redisplay": Choice(("always", "limited", "unspecified")),
    "type": Text(most=40),
}
METHOD_LIST: Final[Shape] = {**THEIR_METHODS, "customer": Text(most=255), **refused("customer_account")}
ATTACH: Final[Shape] = {"customer": Text(required=True, most=255), **refused("customer_account")}


def customer_of(store: Store, identity: str, param: str = "customer", status: int = 400) -> Thing:
    """A customer who has not been deleted.

    Raises:
        ApiError: there is none.
    """
    customer = store.find("customer", identity, param, status)
    if customer.get("deleted"):
        raise no_such("customer", identity, param, status)
    return customer


def create_customer(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/customers`"""
    _check_email(params)
    method = method_of(store, params["payment_method"]) if "payment_method" in params else None
    if method:
        _attachable(store, method, None)
    customer = store.new(
        "customer",
        {
            "address": None,
            "balance": 0,
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": None,
            "discount": None,
            "email": None,
            "invoice_prefix": store.identity("x", 8)[2:].upper(),
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": None,
                "footer": None,
                "rendering_options": None,
            },
            "metadata": {},
            "name": None,
            "next_invoice_sequence": 1,
            "phone": None,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": None,
        },
    )
    if method:
        attached(store, method, customer)
    try:
        _change_customer(store, customer, params)
    except Exception:
        del store.tables["customer"][customer["id"]]
        raise
    store.emit("customer.created", customer)
    return customer


def _check_email(params: dict[str, Any]) -> None:
    if params.get("email") and not _EMAIL.fullmatch(params["email"]):
        raise invalid(f"Invalid email address: {params['email'][:100]}", "email", "email_invalid")


def _change_customer(store: Store, customer: Thing, params: dict[str, Any]) -> None:
    settings = params.get("invoice_settings", {})
    if wanted := settings.get("default_payment_method"):
        method = store.tables["payment_method"].get(wanted)
        if method is None or method["customer"] != customer["id"]:
            raise invalid(
                f"The customer does not have a payment method with the ID {wanted[:255]}. "
                "The payment method must be attached to the customer.",
                "invoice_settings[default_payment_method]",
                "resource_missing",
            )
    for name, value in params.items():
        if name == "metadata":
            customer[name] = merged(customer[name], value)
        elif name == "invoice_settings":
            customer[name] |= value
        elif name == "tax_exempt":
            customer[name] = value or "none"
        elif name != "payment_method":
            customer[name] = value


def get_customer(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/customers/{customer}`; one who was deleted is shown as such"""
    return store.find("customer", ids["customer"], "id", 404)


def update_customer(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/customers/{customer}`"""
    customer = customer_of(store, ids["customer"], "id", 404)
    _check_email(params)
    previous = {name: copy.deepcopy(customer[name]) for name in params}
    _change_customer(store, customer, params)
    store.emit("customer.updated", customer, previous)
    return customer


def delete_customer(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`DELETE /v1/customers/{customer}`: their cards go with them"""
    customer = customer_of(store, ids["customer"], "id", 404)
    for method in store.tables["payment_method"].values():
        if method["customer"] == customer["id"]:
            _detach(store, method)
    store.emit("customer.deleted", customer)
    gone = {"id": customer["id"], "object": "customer", "deleted": True}
    store.tables["customer"][customer["id"]] = gone
    return gone


def list_customers(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/customers`"""
    email = params.get("email")
    return store.page(
        "customer",
        "/v1/customers",
        params,
        lambda each: not each.get("deleted") and (email is None or each["email"] == email),
    )


def method_of(store: Store, identity: str, param: str = "payment_method", status: int = 400) -> Thing:
    """A payment method by id; a test token makes a new one, as it does at Stripe.

    Raises:
        ApiError: there is none.
    """
    if identity in store.tokens:
        return _new_method(store, store.tokens[identity], {})
    return store.find("payment_method", identity, param, status)


def method_from(store: Store, data: dict[str, Any]) -> Thing:
    """A payment method from what was typed in.

    Raises:
        ApiError: the number is none, or the card is past its date.
    """
    if "card" not in data:
        raise missing("card")
    return _new_method(store, _typed(store, data["card"]), data)


def _typed(store: Store, typed: dict[str, Any]) -> Card:
    if "token" in typed:
        card = store.tokens.get(typed["token"].replace("tok_", "pm_card_", 1))
        if card is None:
            raise no_such("token", typed["token"][:255], "card[token]")
        return card
    for name in ("number", "exp_month", "exp_year"):
        if name not in typed:
            raise missing(f"card[{name}]")
    number = re.sub(r"[ -]", "", typed["number"])
    if not re.fullmatch(r"[0-9]{12,19}", number) or not adds_up(number):
        raise declined("incorrect_number")
    year = _full_year(typed["exp_year"])
    today = datetime.fromtimestamp(store.now, UTC)
    if year < today.year or year > today.year + 50:
        raise declined("invalid_expiry_year")
    if year == today.year and typed["exp_month"] < today.month:
        raise declined("invalid_expiry_month")
    if number not in NUMBERS:
        raise declined("test_mode_live_card")
    return store.tokens[NUMBERS[number]]


def _full_year(year: int) -> int:
    return year if year >= 100 else year + 2000


def _new_method(store: Store, card: Card, data: dict[str, Any]) -> Thing:
    typed = data.get("card", {})
    today = datetime.fromtimestamp(store.now, UTC)
    blank = {"address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))}
    method = store.new(
        "payment_method",
        {
            "allow_redisplay": data.get("allow_redisplay", "unspecified"),
            "billing_details": blank | {"email": None, "name": None, "phone": None, "tax_id": None},
            "card": {
                "brand": card.brand,
                "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "unchecked"},
                "country": card.country,
                "display_brand": card.brand,
                "exp_month": typed.get("exp_month", today.month),
                "exp_year": _full_year(typed.get("exp_year", today.year + _YEARS_AHEAD)),
                "fingerprint": f"{zlib.crc32(f'{card.brand}{card.last4}'.encode()):016x}",
                "funding": card.funding,
                "generated_from": None,
                "last4": card.last4,
                "networks": {"available": [card.brand], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            "customer": None,
            "metadata": merged({}, data.get("metadata", {})),
            "type": "card",
        },
    )
    _bill(method, data.get("billing_details", {}))
    store.cards[method["id"]] = card
    return method


def _bill(method: Thing, given: dict[str, Any]) -> None:
    details = method["billing_details"]
    for name, value in given.items():
        if name == "address":
            details[name] = dict.fromkeys(details[name]) if value is None else details[name] | value
        else:
            details[name] = value


def _attachable(store: Store, method: Thing, customer: Thing | None) -> None:
    if method["customer"] is not None and (customer is None or method["customer"] != customer["id"]):
        raise invalid("The payment method you provided has already been attached to a customer.")
    if method["id"] in store.spent:
        raise used_up()
    verdict = store.cards[method["id"]].at_setup()
    if verdict not in ("ok", "action"):
        raise declined(verdict)


def used_up() -> Exception:
    """A card that was used without belonging to anybody, or was taken away from its customer."""
    return invalid(
        "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, or was "
        "detached from a Customer. It may not be used again. To use a PaymentMethod multiple times, you must attach "
        "it to a Customer first."
    )


def attached(store: Store, method: Thing, customer: Thing) -> None:
    """The card is the customer's from now on."""
    if method["customer"] != customer["id"]:
        method["customer"] = customer["id"]
        store.emit("payment_method.attached", method)


def attach_method(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_methods/{method}/attach`"""
    customer = customer_of(store, params["customer"])
    method = method_of(store, ids["method"], "payment_method", 404)
    _attachable(store, method, customer)
    attached(store, method, customer)
    return method


def detach_method(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_methods/{method}/detach`"""
    method = store.find("payment_method", ids["method"], "payment_method", 404)
    if method["customer"] is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    _detach(store, method)
    return method


def _detach(store: Store, method: Thing) -> None:
    owner = store.tables["customer"][method["customer"]]
    method["customer"] = None
    store.spent.add(method["id"])
    settings = owner.get("invoice_settings", {})
    if settings.get("default_payment_method") == method["id"]:
        settings["default_payment_method"] = None
    store.emit("payment_method.detached", method, {"customer": owner["id"]})


def create_method(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_methods`"""
    return method_from(store, params)


def get_method(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/payment_methods/{method}`, also below a customer"""
    if "customer" not in ids:
        return method_of(store, ids["method"], "payment_method", 404)
    owner = customer_of(store, ids["customer"], "customer", 404)
    method = store.find("payment_method", ids["method"], "payment_method", 404)
    if method["customer"] != owner["id"]:
        raise no_such("PaymentMethod", method["id"], "payment_method", 404)
    return method


def update_method(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_methods/{method}`"""
    method = store.find("payment_method", ids["method"], "payment_method", 404)
    if method["customer"] is None:
        raise invalid("You must save this PaymentMethod to a customer before you can update it.")
    previous = {name: copy.deepcopy(method[name]) for name in params}
    _bill(method, params.get("billing_details", {}))
    if "allow_redisplay" in params:
        method["allow_redisplay"] = params["allow_redisplay"]
    if "metadata" in params:
        method["metadata"] = merged(method["metadata"], params["metadata"])
    method["card"] |= params.get("card", {})
    method["card"]["exp_year"] = _full_year(method["card"]["exp_year"])
    store.emit("payment_method.updated", method, previous)
    return method


def list_methods(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/payment_methods` and `GET /v1/customers/{customer}/payment_methods`"""
    owner = ids.get("customer") or params.get("customer")
    if owner is not None:
        customer_of(store, owner, "customer", 404 if "customer" in ids else 400)
    url = f"/v1/customers/{owner}/payment_methods" if "customer" in ids else "/v1/payment_methods"
    redisplay = params.get("allow_redisplay")
    return store.page(
        "payment_method",
        url,
        params,
        lambda each: (
            each["customer"] is not None
            and each["customer"] == (owner or each["customer"])
            and each["type"] == params.get("type", "card")
            and each["allow_redisplay"] == (redisplay or each["allow_redisplay"])
        ),
    )
