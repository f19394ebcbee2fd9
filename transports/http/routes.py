"""Every operation of the API, collected from the resource modules, and the routes made from them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import msgspec
from aiohttp import web

from transports.http import (
    accounts,
    calls,
    compliance,
    consents,
    contacts,
    devices,
    numbers,
    oidc,
    operator_calls,
    operator_payments,
    payments,
    personas,
    schedules,
    search,
    sessions,
    status,
    usage,
)
from transports.http.api import VARIABLE, Ask, Operation, operation
from transports.http.openapi import document
from transports.http.services import Services
from transports.http.serving import JSON, served

RESOURCES: tuple[ModuleType, ...] = (
    status,
    accounts,
    sessions,
    numbers,
    consents,
    oidc,
    devices,
    calls,
    operator_calls,
    compliance,
    schedules,
    payments,
    operator_payments,
    personas,
    contacts,
    search,
    usage,
)
"""The modules whose handlers make the API. A new resource is a module with a line here."""


def operations(*modules: ModuleType) -> tuple[Operation, ...]:
    """The operations of these modules, or of the whole API; in the order in which they are written.

    Raises:
        ValueError: two of them share method and path, or a name.
    """
    found = [made for module in modules or (*RESOURCES, sys.modules[__name__]) for made in operations_in(module)]
    addresses = [f"{made.method} {VARIABLE.sub('{}', made.path)}" for made in found]
    for told in (addresses, [made.name for made in found]):
        if doubled := {item for item in told if told.count(item) > 1}:
            raise ValueError(f"These operations are there twice: {', '.join(sorted(doubled))}.")
    return tuple(found)


def operations_in(module: ModuleType) -> Iterator[Operation]:
    """The operations whose handlers a module defines; those it merely imports belong to others."""
    for handler in vars(module).values():
        made = getattr(handler, "operation", None)
        if isinstance(made, Operation) and made.handler.__module__ == module.__name__:
            yield made


def routes(services: Services, given: Sequence[Operation] | None = None) -> list[web.RouteDef]:
    """The aiohttp routes of every operation. Paths without variables come first, so `/v1/x/new` is not an id."""
    found = sorted(operations() if given is None else given, key=lambda made: len(made.variables))
    return [web.route(made.method, made.path, served(made, services)) for made in found]


@functools.cache
def described(url: str) -> bytes:
    """The OpenAPI document of the whole API at this address."""
    return msgspec.json.encode(document(operations(), url))


@operation("GET", "/v1/openapi.json", who="public", media=JSON, tag="reference")
async def read_openapi(ask: Ask) -> web.Response:
    """This API as an OpenAPI 3.1 document."""
    body = described(ask.services.settings.public_url)
    return web.Response(body=body, content_type=JSON, headers={"Cache-Control": "no-cache"})
