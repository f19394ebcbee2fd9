"""Requests that cannot even be parsed: aiohttp answers them before any route or middleware; here as we do."""

from __future__ import annotations

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from transports.http.origins import SECURE
from transports.http.problems import Problem

log = structlog.get_logger()


def answer_unparsed() -> None:
    """Let every server of this process answer broken HTTP with a problem document, and without a page of log.

    aiohttp has no setting for it; its minor version is pinned, and a test sends broken HTTP.
    """
    RequestHandler.handle_error = _handle_error  # type: ignore[method-assign]


def _handle_error(
    self: RequestHandler,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,
) -> web.StreamResponse:
    if request.writer.output_size > 0:
        raise ConnectionError("A part of the answer is sent already.")
    if status >= 500:
        log.error("unexpected_error", exc_info=exc)
        problem = Problem("internal", "Something went wrong on our side. It has been logged.")
    else:
        log.debug("request_unparsed", why=type(exc).__name__)
        long = isinstance(exc, LineTooLong)
        detail = "A line of it is too long: send less in the address and headers." if long else "It is no valid HTTP."
        problem = Problem("malformed-request", detail)
    response = problem.response()
    response.headers.update(SECURE)
    response.headers[hdrs.SERVER] = "ringdown"
    response.force_close()
    return response
