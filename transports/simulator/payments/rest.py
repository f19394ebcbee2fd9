"""Stripe's API over HTTP: keys, parameters, idempotency, faults, and one table of all operations."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from . import charges, customers, disputes, events, intents, lifecycle, setups
from .errors import ApiError, Thing, invalid, no_such
from .faults import Fault
from .form import parse
from .idempotency import Reply
from .params import PAGE, Shape, Words, read
from .store import API_VERSION, Store, check_expand

if TYPE_CHECKING:
    from .double import Double

_Carry = Callable[[Store, Mapping[str, str], dict[str, Any]], Thing]


@dataclass(frozen=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    shape: Shape
    carry_out: _Carry
    public: bool = False  # a browser may do it with the publishable key and the client secret


_NONE: Final[Shape] = {}
_KINDS: Final = {
    "balance_transactions": "balance_transaction",
    "charges": "charge",
    "customers": "customer",
    "disputes": "dispute",
    "events": "event",
    "payment_intents": "payment_intent",
    "payment_methods": "payment_method",
    "refunds": "refund",
    "setup_intents": "setup_intent",
}
OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("POST", "/v1/customers", customers.CUSTOMER_CREATE, customers.create_customer),
    Operation("GET", "/v1/customers", customers.CUSTOMER_LIST, customers.list_customers),
    Operation("GET", "/v1/customers/{customer}", _NONE, customers.get_customer),
    Operation("POST", "/v1/customers/{customer}", customers.CUSTOMER_UPDATE, customers.update_customer),
    Operation("DELETE", "/v1/customers/{customer}", _NONE, customers.delete_customer),
    Operation("GET", "/v1/customers/{customer}/payment_methods", customers.THEIR_METHODS, customers.list_methods),
    Operation("GET", "/v1/customers/{customer}/payment_methods/{method}", _NONE, customers.get_method),
    Operation("POST", "/v1/payment_methods", customers.METHOD_CREATE, customers.create_method, public=True),
    Operation("GET", "/v1/payment_methods", customers.METHOD_LIST, customers.list_methods),
    Operation("GET", "/v1/payment_methods/{method}", _NONE, customers.get_method),
    Operation("POST", "/v1/payment_methods/{method}", customers.METHOD_UPDATE, customers.update_method),
    Operation("POST", "/v1/payment_methods/{method}/attach", customers.ATTACH, customers.attach_method),
    Operation("POST", "/v1/payment_methods/{method}/detach", _NONE, customers.detach_method),
    Operation("POST", "/v1/setup_intents", setups.CREATE, setups.create),
    Operation("GET", "/v1/setup_intents", setups.LIST, setups.list_intents),
    Operation("GET", "/v1/setup_intents/{intent}", intents.RETRIEVE, setups.retrieve, public=True),
    Operation("POST", "/v1/setup_intents/{intent}", setups.UPDATE, setups.update),
    Operation("POST", "/v1/setup_intents/{intent}/confirm", setups.CONFIRM, setups.confirm, public=True),
    Operation("POST", "/v1/setup_intents/{intent}/cancel", setups.CANCEL, setups.cancel),
    Operation("POST", "/v1/payment_intents", intents.CREATE, intents.create),
    Operation("GET", "/v1/payment_intents", intents.LIST, intents.list_intents),
    Operation("GET", "/v1/payment_intents/{intent}", intents.RETRIEVE, intents.retrieve, public=True),
    Operation("POST", "/v1/payment_intents/{intent}", intents.UPDATE, intents.update),
    Operation("POST", "/v1/payment_intents/{intent}/confirm", intents.CONFIRM, intents.confirm, public=True),
    Operation("POST", "/v1/payment_intents/{intent}/capture", intents.CAPTURE, lifecycle.capture),
    Operation("POST", "/v1/payment_intents/{intent}/cancel", intents.CANCEL, lifecycle.cancel),
    Operation("GET", "/v1/charges", charges.CHARGE_LIST, charges.list_charges),
    Operation("GET", "/v1/charges/{charge}", _NONE, charges.get_charge),
    Operation("POST", "/v1/charges/{charge}", charges.CHARGE_UPDATE, charges.update_charge),
    Operation("GET", "/v1/charges/{charge}/refunds", PAGE, charges.list_refunds),
    Operation("POST", "/v1/refunds", charges.REFUND_CREATE, charges.create_refund),
    Operation("GET", "/v1/refunds", charges.REFUND_LIST, charges.list_refunds),
    Operation("GET", "/v1/refunds/{refund}", _NONE, charges.get_refund),
    Operation("POST", "/v1/refunds/{refund}", charges.REFUND_UPDATE, charges.update_refund),
    Operation("GET", "/v1/disputes", disputes.LIST, disputes.list_disputes),
    Operation("GET", "/v1/disputes/{dispute}", _NONE, disputes.get_dispute),
    Operation("POST", "/v1/disputes/{dispute}", disputes.UPDATE, disputes.update_dispute),
    Operation("POST", "/v1/disputes/{dispute}/close", _NONE, disputes.close_dispute),
    Operation("GET", "/v1/balance", _NONE, charges.get_balance),
    Operation("GET", "/v1/balance_transactions", charges.BALANCE_LIST, charges.list_balance_transactions),
    Operation("GET", "/v1/balance_transactions/{transaction}", _NONE, charges.get_balance_transaction),
    Operation("GET", "/v1/events", events.LIST, events.list_events),
    Operation("GET", "/v1/events/{event}", _NONE, events.get_event),
)


@dataclass
class _Ask:
    """One request on its way through."""

    request: web.Request
    identity: str
    key: str | None  # only a POST has one that counts
    fault: Fault | None = None
    replayed: str | None = None  # the request whose answer this is

    @property
    def done(self) -> bool:
        """Whether a fault lets the request be carried out before it strikes."""
        return self.fault is None or self.fault.done or self.fault.kind in ("rest_lost_reply", "rest_slow")


def mount(app: web.Application, double: Double) -> None:
    """Add the API to an application."""
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, _handler(double, operation))
    app.router.add_route("OPTIONS", "/v1/{tail:.*}", _preflight)
    app.router.add_route("*", "/v1/{tail:.*}", _handler(double, None))


async def _preflight(request: web.Request) -> web.Response:
    allowed = {
        "Access-Control-Allow-Headers": "authorization, content-type, idempotency-key, stripe-version",
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Origin": "*",
    }
    return web.Response(status=204, headers=allowed)


def _handler(double: Double, operation: Operation | None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        ask = _Ask(request, double.store.identity("req", 14), key or None)
        try:
            status, body = await _answer(double, operation, ask)
        except ApiError as error:
            status, body = error.status, error.body()
        except web.HTTPException as error:  # the body is too large, or broke off
            status, body = error.status, invalid(f"Invalid request: {error.reason}").body()
        double.note(
            {
                "method": request.method,
                "path": request.path,
                "key": ask.key,
                "replayed": ask.replayed is not None,
                "status": 0 if ask.fault and ask.fault.kind == "rest_hang" else status,
                "request_id": ask.identity,
                "fault": ask.fault.kind if ask.fault else None,
            }
        )
        if ask.fault and ask.fault.kind == "rest_hang":
            await double.closing.wait()
        if ask.fault and ask.fault.kind in ("rest_hang", "rest_lost_reply") and request.transport:
            request.transport.abort()
        return web.json_response(body, status=status, headers=_headers(ask, status), dumps=_dumps)

    return handle


def _dumps(body: Any) -> str:
    return json.dumps(body, indent=2)


def _headers(ask: _Ask, status: int) -> dict[str, str]:
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Request-Id": ask.identity,
        "Stripe-Version": ask.request.headers.get("Stripe-Version", API_VERSION),
    }
    if ask.key and ask.key.isprintable() and ask.key.isascii():
        headers["Idempotency-Key"] = ask.key
    if ask.replayed:
        headers |= {"Idempotent-Replayed": "true", "Original-Request": ask.replayed}
    if status >= 500 or status == 409:
        # An answer that is kept would only be replayed.
        kept = ask.replayed is not None or (ask.key is not None and status != 409 and ask.done)
        headers["Stripe-Should-Retry"] = "false" if kept else "true"
    return headers


async def _answer(double: Double, operation: Operation | None, ask: _Ask) -> tuple[int, Thing]:
    request = ask.request
    secret = _authenticate(double, request)
    if operation is None:
        raise invalid(f"Unrecognized request URL ({request.method}: {request.path[:200]}).", status=404)
    if not secret and not operation.public:
        raise invalid("This API call cannot be made with a publishable API key.", None, "secret_key_required", 401)
    ask.fault = double.faults.request(request.method, request.path)
    if ask.fault and not ask.done:
        return _struck(ask.fault)
    form = await _form(request)
    if ask.key is None:
        params = _read(operation, form)
        await _slow(ask)
        reply = _carry_out(double, operation, ask, params, secret=secret)
        return reply.status, reply.body
    kept = double.keys.claim(ask.key, request.method, request.path, form, double.now)
    if kept is not None:
        ask.replayed = kept.request
        return kept.status, kept.body
    try:
        params = _read(operation, form)
        await _slow(ask)
        reply = _carry_out(double, operation, ask, params, secret=secret)
    except BaseException:
        double.keys.free(ask.key)
        raise
    double.keys.keep(ask.key, reply)
    return reply.status, reply.body


def _authenticate(double: Double, request: web.Request) -> bool:
    """Whether the caller has the secret key, not only the publishable one.

    Raises:
        ApiError: they have neither.
    """
    kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
    given = credentials.strip()
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if not given or kind.lower() not in ("bearer", "basic"):
        raise invalid(
            "You did not provide an API key. Put it in the Authorization header: 'Authorization: Bearer YOUR_KEY'.",
            status=401,
        )
    if _same(given, double.config.secret_key):
        return True
    if _same(given, double.config.publishable_key):
        return False
    raise invalid(f"Invalid API Key provided: {given[:8]}***{given[-4:]}", status=401)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _struck(fault: Fault) -> tuple[int, Thing]:
    if fault.kind == "rest_too_many":
        error = invalid("Request rate limit exceeded.", None, "rate_limit", 429)
    else:
        error = ApiError(fault.status, "api_error", "An unexpected error occurred; nothing was done.")
    return error.status, error.body()


async def _slow(ask: _Ask) -> None:
    if ask.fault and ask.fault.kind == "rest_slow":
        await asyncio.sleep(ask.fault.ms / 1000)


async def _form(request: web.Request) -> dict[str, Any]:
    if request.method in ("GET", "DELETE") and not request.can_read_body:
        return parse(request.rel_url.raw_query_string.encode("utf-8", "surrogateescape"))
    try:
        body = await request.read()
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
        raise invalid("Invalid request: its body cannot be read.") from error
    if body and request.content_type != "application/x-www-form-urlencoded":
        raise invalid("Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
    return parse(body)


def _read(operation: Operation, form: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the operation wants them, before anything is done."""
    params = read({**operation.shape, "expand": Words()}, form)
    plurals = [part for part in operation.path.split("/") if part in _KINDS]
    kind = _KINDS[plurals[-1]] if plurals else ""
    listed = operation.method == "GET" and operation.path.endswith(tuple(_KINDS))
    check_expand(kind, params.get("expand", []), listed=listed)
    return params


def _address(double: Double, request: web.Request) -> str:
    if double.url:
        return double.url
    try:
        return str(request.url.origin())
    except ValueError:
        return ""


def _carry_out(double: Double, operation: Operation, ask: _Ask, params: dict[str, Any], *, secret: bool) -> Reply:
    """Do it, all at once; what comes of it is kept under the key, a refusal too."""
    store = double.store
    double.catch_up()
    store.address = _address(double, ask.request)
    expand = params.pop("expand", [])
    ids = dict(ask.request.match_info)
    try:
        if not secret:
            _check_client(store, ids, params)
        params.pop("client_secret", None)
        store.cause = (ask.identity, ask.key)
        body = store.shown(operation.carry_out(store, ids, params), expand)
        status = 200
    except ApiError as error:
        status, body = error.status, error.body()
        body["error"]["request_log_url"] = f"{store.address}/control/requests#{ask.identity}"
    finally:
        store.cause = (None, None)
    if ask.fault and ask.fault.kind == "rest_error":
        failure = ApiError(ask.fault.status, "api_error", "An unexpected error occurred.")
        status, body = failure.status, failure.body()
    return Reply(status, body, ask.identity)


def _check_client(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> None:
    """A browser may touch the intent whose secret it was given.

    Raises:
        ApiError: it was not given this one's.
    """
    if "intent" not in ids:
        return
    found = [store.tables[kind].get(ids["intent"]) for kind in ("payment_intent", "setup_intent")]
    secrets = [intent["client_secret"] for intent in found if intent]
    if not secrets or not _same(params.get("client_secret", ""), secrets[0]):
        raise no_such("intent with this client secret", ids["intent"], "client_secret", 404)
