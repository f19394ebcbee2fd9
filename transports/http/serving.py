"""How an operation is served: who asks, how often, whether it is well formed, then the handler, then its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from infra.database.idempotency import Answered, Begun, Reused, Running
from infra.database.pool import SERVER_AWAY
from infra.identity.principal import OPERATOR
from infra.limits import Verdict
from transports.http.access import address_of, principal_of, require
from transports.http.api import Ask, Cookie, Operation, Reply
from transports.http.problems import Problem
from transports.http.services import Services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECRET_FIELDS = frozenset({"access_token", "refresh_token", "api_key", "token", "password", "authorization"})
KEY_HEADER = "Idempotency-Key"
KEY_CHARS = 255
KEPT_HEADERS = ("Location",)
JSON = "application/json"
VERDICT: web.RequestKey[Verdict] = web.RequestKey("verdict", Verdict)


def served(operation: Operation, services: Services) -> Handler:
    """The aiohttp handler of an operation."""
    decoder = msgspec.json.Decoder(operation.body) if operation.body is not None else None
    trust, secure = services.settings.node.trust_forwarded, services.settings.public_url.startswith("https://")

    async def handle(request: web.Request) -> web.StreamResponse:
        if operation.body_bytes is not None:
            request._client_max_size = operation.body_bytes  # aiohttp knows one limit for a whole application
        ip = address_of(request, trust_forwarded=trust)
        principal = await principal_of(request, services, operation.who)
        if principal is not OPERATOR:  # the server's own operators are not held up
            route, user = f"{operation.method} {operation.path}", principal.user_id if principal else None
            verdict = await services.limiter.take(operation.limit, route, user, ip)
            request[VERDICT] = verdict
            refuse_excess(verdict)
        require(request, principal, operation.who)
        given: dict[str, Any] = path_variables(operation, request)
        refuse_secrets_in_address(request, operation)
        if operation.query is not None:
            given["query"] = read_query(request, operation.query)
        if decoder is not None:
            given["body"] = await read_body(request, decoder)
        ask = Ask(request, services, ip, principal, key_of(request) if operation.idempotent else None)

        async def run() -> web.StreamResponse:
            return response_of(operation, await operation.handler(ask, **given), secure=secure)

        return await run() if ask.key is None else await once(ask, ask.key, run)

    return handle


def path_variables(operation: Operation, request: web.Request) -> dict[str, Any]:
    """The variables of the path.

    Raises:
        Problem: one of them cannot be an id of ours, so there is nothing of that name (404).
    """
    for name, pattern in operation.variables.items():
        if not pattern.fullmatch(request.match_info[name]):
            raise Problem(operation.missing, f"There is no {name.replace('_', ' ')} of this id.")
    return dict(request.match_info)


def read_query(request: web.Request, struct: type) -> Any:
    """The query's fields, validated.

    Raises:
        Problem: 422 with the field and the rule that was broken.
    """
    told = dict(request.query)
    if len(told) != len(request.query):
        raise Problem("invalid-field", "A field stands twice in the query. Send each once.")
    refuse_nul(told)
    try:
        return msgspec.convert(told, struct, strict=False)
    except msgspec.ValidationError as error:
        raise broken_rule(error) from error


async def read_body(request: web.Request, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The request's JSON body, validated.

    Raises:
        Problem: 415 for another media type, 400 for no JSON, 422 with the field and the rule that was broken.
    """
    if request.content_type != JSON:
        raise Problem("not-json", "Send a JSON body with Content-Type: application/json.")
    raw = await request.read()
    try:
        if b"\\u0000" in raw:
            refuse_nul(msgspec.json.decode(raw))
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise broken_rule(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("malformed-json", f"The body is no valid JSON: {error}.") from error


def refuse_nul(value: Any) -> None:
    """No text that we keep may hold the character NUL; PostgreSQL cannot.

    Raises:
        Problem: it does (422).
    """
    match value:
        case str() if "\0" in value:
            raise Problem("invalid-field", "A text holds the character NUL, which no text may. Remove it.")
        case dict():
            for name, inner in value.items():
                refuse_nul(name)
                refuse_nul(inner)
        case list():
            for inner in value:
                refuse_nul(inner)


def broken_rule(error: msgspec.ValidationError) -> Problem:
    """The problem that names the field and the rule it breaks."""
    rule, at, path = str(error).rpartition(" - at `")
    field = path.rstrip("`").removeprefix("$").removeprefix(".") if at else ""
    return Problem("invalid-field", f"{error}.", more={"field": field, "rule": rule if at else str(error)})


def refuse_secrets_in_address(request: web.Request, operation: Operation) -> None:
    """Addresses end up in logs and histories, so no token may stand in one.

    Raises:
        Problem: one does (400).
    """
    known = set(operation.query.__struct_fields__) if operation.query is not None else set()
    if found := SECRET_FIELDS.intersection(request.query) - known:
        detail = f"Remove {sorted(found)[0]} from the address and revoke it; send tokens in the header Authorization."
        raise Problem("token-in-address", detail)


def refuse_excess(verdict: Verdict) -> None:
    """Stop a request beyond its limit.

    Raises:
        Problem: 429 with Retry-After.
    """
    if not verdict.allowed:
        detail = f"At most {verdict.limit} of these a minute. Try again in {verdict.reset_seconds} s."
        raise Problem("too-many-requests", detail, {"Retry-After": str(verdict.reset_seconds)})


async def tell_limits(request: web.Request, response: web.StreamResponse) -> None:
    """Signal before an answer is sent: what the client has left of its limit, whatever the answer is."""
    if VERDICT in request:
        response.headers.update(request[VERDICT].headers())


def key_of(request: web.Request) -> str | None:
    """The Idempotency-Key.

    Raises:
        Problem: it is longer than 255 characters or not of printable ASCII (422).
    """
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_CHARS or not key.isascii() or not key.isprintable():
        raise Problem("idempotency-key-invalid", f"{KEY_HEADER} has 1 to {KEY_CHARS} printable ASCII characters.")
    return key


async def once(ask: Ask, key: str, run: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Carry a request out once for its key: the same again gets the same answer.

    Only what was done is kept. A request that was refused did nothing, so its key is free again: whoever mends the
    cause may send it once more.

    Raises:
        Problem: the key was used for another request (422), or the first one is still running (409).
    """
    answers, owner = ask.services.answers, ask.user.user_id
    wanted = f"{ask.request.method} {ask.request.path_qs}\n".encode() + await ask.request.read()
    begun = await answers.begin(owner, key, wanted)
    match begun:
        case Reused():
            raise Problem("idempotency-key-reused", "This key was used for another request. Take a new one.")
        case Running(seconds):
            retry = {"Retry-After": str(max(1, round(min(seconds, 5))))}
            raise Problem("idempotency-running", "The first request of this key is still running. Ask again.", retry)
        case Answered(status, headers, body):
            repeated = {**headers, "Idempotent-Replayed": "true"}
            return web.Response(status=status, body=body, content_type=JSON, headers=repeated)
    assert isinstance(begun, Begun)
    try:
        response = await run()
    except Exception:
        with contextlib.suppress(*SERVER_AWAY):  # then the lease ends it
            await answers.forget(begun)
        raise
    if isinstance(response, web.Response) and response.status < 300:
        kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        body = response.body if isinstance(response.body, bytes) else b""
        await answers.finish(begun, response.status, kept, body)
    else:
        await answers.forget(begun)
    return response


def response_of(operation: Operation, result: Any, *, secure: bool) -> web.StreamResponse:
    """What a handler returned, as a response."""
    if isinstance(result, web.StreamResponse):
        return result
    reply = result if isinstance(result, Reply) else Reply(result)
    status = reply.status or operation.status
    if reply.body is None:
        response = web.Response(status=status, headers=reply.headers)
    else:
        body = msgspec.json.encode(reply.body)
        response = web.Response(status=status, body=body, content_type=JSON, headers=reply.headers)
    for cookie in reply.cookies:
        bake(response, cookie, secure=secure)
    return response


def bake(response: web.StreamResponse, cookie: Cookie, *, secure: bool) -> None:
    """Put a cookie on a response."""
    response.set_cookie(
        cookie.name,
        cookie.value,
        max_age=cookie.max_age,
        path=cookie.path,
        httponly=cookie.http_only,
        secure=secure,
        samesite="Strict",
    )
