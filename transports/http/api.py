"""How a resource of the API is written: handlers with typed parameters, and a record of each operation.

    @operation("POST", "/v1/personas", status=201, answers=PersonaView, refuses=("persona-limit",), limit="write")
    async def create_persona(ask: Ask, body: NewPersona) -> Reply[PersonaView]:
        '''Make a persona of your own.'''

Parameters are found by name: `ask`, `body` (the JSON body's Struct), `query` (the Struct of the query's fields), and
the variables of the path as keyword arguments of type `str`. `routes.py` makes aiohttp routes and the OpenAPI document
from the records; nothing about an operation is written down twice.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import msgspec
from aiohttp import web

from infra.cursors import CURSOR_CHARS, cursor_of
from infra.identity.principal import Principal
from transports.http.problems import PROBLEMS, Problem
from transports.http.services import Services

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])
Who = Literal["user", "public", "operator"]
Limit = Literal["read", "write", "calls", "auth", "verify"]
ID = r"[a-z][a-z0-9-]{0,19}_[0-9a-f]{32}"  # as `infra.ids.new_id` makes them
VARIABLE = re.compile(r"{([a-z_]+)}")
SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, as its handler sees it.

    Args:
        request: for what nothing else here says: cookies, headers, the raw body.
        ip: the client's address.
        principal: who asks; None on public operations.
        key: the Idempotency-Key of the request, if it sent one.
    """

    request: web.Request
    services: Services
    ip: str
    principal: Principal | None = None
    key: str | None = None

    @property
    def user(self) -> Principal:
        """Who asks.

        Raises:
            Problem: nobody in particular, on a public operation.
        """
        if self.principal is None:
            raise Problem("not-authorised", "Sign in first: POST /v1/sessions.", {"WWW-Authenticate": "Bearer"})
        return self.principal


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie of the console; `SameSite=Strict` always, `Secure` where the public address is https."""

    name: str
    value: str
    max_age: int
    path: str = "/"
    http_only: bool = True

    @classmethod
    def gone(cls, name: str, path: str = "/") -> Self:
        """The cookie removed."""
        return cls(name, "", 0, path)


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """An answer with more to it than its body. `status` is the operation's own where it is None."""

    body: T | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[Cookie] = ()


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list. `next` is sent as `after` for the page that follows; null on the last one."""

    items: list[T]
    next: str | None = None


class PageQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The query of a list; inherit from it for further filters."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100, description="rows of a page")] = 50
    after: Annotated[str, msgspec.Meta(max_length=CURSOR_CHARS, description="`next` of the page before")] | None = None


def page(rows: Sequence[R], limit: int, key: Callable[[R], tuple[object, ...]], view: Callable[[R], T]) -> Page[T]:
    """A page of rows, of which one more than `limit` was read to learn whether there are more.

    `key` is the sort key of a row, its id last; the next page begins beyond it (`infra.cursors.key_of`).
    """
    shown = rows[:limit]
    more = len(rows) > limit and bool(shown)
    return Page([view(row) for row in shown], cursor_of(*key(shown[-1])) if more else None)


@dataclass(frozen=True)
class Operation:
    """What is known of one operation; everything that serves or documents it reads this.

    Args:
        answers: the Struct (or Page[Struct]) of the success body; None: no body, or not JSON (then `media`).
        refuses: kinds of problems beyond those that every operation may answer with.
        media: the media type of a success body that is no JSON, such as `audio/wav`.
        paths: patterns of path variables that are no ids of ours.
        body_bytes: how large the body may be, where the ordinary limit is too small.
        examples: a request body that runs, for the documentation; made from the schema where none is given.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    status: int = 200
    answers: Any = None
    refuses: tuple[str, ...] = ()
    who: Who = "user"
    limit: Limit = "read"
    idempotent: bool = False
    media: str | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    example: Any = None
    body_bytes: int | None = None
    tag: str = ""
    summary: str = ""
    description: str = ""

    @property
    def name(self) -> str:
        """The operation's id in the OpenAPI document."""
        return getattr(self.handler, "__name__", "operation")

    @property
    def safe(self) -> bool:
        """Whether it changes nothing."""
        return self.method in SAFE

    @cached_property
    def variables(self) -> dict[str, re.Pattern[str]]:
        """The path's variables with what each must look like."""
        return {name: re.compile(self.paths.get(name, ID)) for name in VARIABLE.findall(self.path)}

    @cached_property
    def body(self) -> Any:
        """The type of the JSON body; None where there is none."""
        return self._hints.get("body")

    @cached_property
    def query(self) -> Any:
        """The Struct of the query; None where there is none."""
        return self._hints.get("query")

    @cached_property
    def missing(self) -> str:
        """The kind of problem when the thing in the path does not exist."""
        kinds = (kind for kind in self.refuses if PROBLEMS[kind][0] == 404)
        return next(kinds, "not-found")

    @cached_property
    def _hints(self) -> dict[str, Any]:
        hints = typing.get_type_hints(self.handler, include_extras=True)
        known = {"ask", "body", "query", *self.variables}
        taken = set(inspect.signature(self.handler).parameters)
        if taken - known or set(self.variables) - taken:
            wrong = sorted((taken - known) | (set(self.variables) - taken))
            raise TypeError(f"{self.name} and its path {self.path} do not agree on {', '.join(wrong)}.")
        return hints


def operation(
    method: str,
    path: str,
    *,
    status: int = 200,
    answers: Any = None,
    refuses: tuple[str, ...] = (),
    who: Who = "user",
    limit: Limit | None = None,
    idempotent: bool = False,
    media: str | None = None,
    paths: Mapping[str, str] | None = None,
    example: Any = None,
    body_bytes: int | None = None,
    tag: str = "",
    summary: str = "",
) -> Callable[[H], H]:
    """Record an operation on its handler, as `handler.operation`; the arguments are those of `Operation`.

    Where they are not given, `limit` is `read` for GET and `write` for the rest, `tag` the first part of the path after
    /v1, `summary` the first line of the handler's docstring.
    """

    def record(handler: H) -> H:
        first, _, rest = (inspect.getdoc(handler) or "").partition("\n")
        made = Operation(
            method=method,
            path=path,
            handler=handler,
            status=status,
            answers=answers,
            refuses=refuses,
            who=who,
            limit=limit or ("read" if method in SAFE else "write"),
            idempotent=idempotent,
            media=media,
            paths=paths or {},
            example=example,
            body_bytes=body_bytes,
            tag=tag or path.removeprefix("/v1").split("/")[1],
            summary=summary or first.rstrip("."),
            description=rest.strip(),
        )
        handler.operation = made  # type: ignore[attr-defined]
        return handler

    return record


def operation_of(handler: Callable[..., Awaitable[Any]]) -> Operation:
    """The operation that was recorded on a handler.

    Raises:
        LookupError: none was.
    """
    made = getattr(handler, "operation", None)
    if not isinstance(made, Operation):
        raise LookupError(f"{handler} is no operation: write @operation(...) above it.")
    return made
