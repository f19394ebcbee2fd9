"""The two pages that need no account: the operator's, and the API's reference. Their scripts are ours alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

HERE = Path(__file__).parent
POLICY = (
    "default-src 'self'; media-src 'self' blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
FOLDERS = ("operator", "reference")


def routes() -> list[web.RouteDef]:
    """`/operator` and `/reference`, each with the files of its folder beneath it."""
    found = []
    for name in FOLDERS:
        found.append(web.get(f"/{name}", file(HERE / name / "index.html")))
        files = sorted(path for path in (HERE / name).iterdir() if path.suffix in {".css", ".js", ".svg"})
        found += [web.get(f"/{name}/{path.name}", file(path)) for path in files]
    return found


def file(path: Path) -> Any:
    """A handler for one file."""

    async def show(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=HEADERS)

    return show
