"""The console as files: right types, right headers, nothing of anybody else's, and a shortcut no stranger can use."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from infra.settings import load
from transports.http.pages import CONSOLE, TYPES, Pages, card_key, codes_of
from transports.http.problems import problems

PLAIN = {"Accept-Encoding": "identity"}
FILES = sorted(path.relative_to(CONSOLE).as_posix() for path in CONSOLE.rglob("*") if path.is_file())
Client = TestClient[web.Request, web.Application]


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(Pages()) as opened:
        yield opened


def serving(pages: Pages) -> Client:
    app = web.Application(middlewares=[problems])
    app.add_routes(pages.routes())
    return TestClient(TestServer(app), auto_decompress=False)


async def test_the_whole_console_is_at_the_root(client: Client) -> None:
    """CMB-13, COM-08: one page, and every file it names is there."""
    async with client.get("/", headers=PLAIN) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        page = await answer.text()
    for address in re.findall(r'(?:src|href)="([^"#]+)"', page):
        async with client.get(address) as answer:
            assert answer.status == 200, address


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
async def test_each_file_has_its_type_and_cannot_be_taken_for_another(client: Client, name: str) -> None:
    """COM-34: types are said, sniffing is forbidden, and a known version is not sent twice."""
    async with client.get(f"/console/{name}", headers=PLAIN) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == TYPES[Path(name).suffix]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-cache"
        tag = answer.headers["ETag"]
        body = await answer.read()
    async with client.get(f"/console/{name}", headers=PLAIN | {"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with client.get(f"/console/{name}", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await answer.read()) == body


@pytest.mark.parametrize(
    "path", ["/console/none.js", "/console/../pages.py", "/console/%2e%2e/pages.py", "/console/views"]
)
async def test_what_is_not_the_consoles_is_not_shown(client: Client, path: str) -> None:
    """COM-34: only the files that were read at start exist."""
    async with client.get(path) as answer:
        assert answer.status == 404
        assert (await answer.json())["type"].endswith("/not-found")


async def test_scripts_come_from_here_alone(client: Client) -> None:
    """COM-34: the policy lets nothing in, no frame around, no form out."""
    async with client.get("/") as answer:
        rules = policy(answer.headers["Content-Security-Policy"])
    assert rules["default-src"] == rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    for nothing in ("frame-ancestors", "frame-src", "object-src", "base-uri"):
        assert rules[nothing] == ["'none'"]


async def test_the_card_processors_form_is_let_in_where_there_is_a_real_key() -> None:
    """CMB-56: its script and frame, and nothing more."""
    async with serving(Pages(publishable_key="pk_live_1")) as client, client.get("/") as answer:
        rules = policy(answer.headers["Content-Security-Policy"])
    assert rules["script-src"] == ["'self'", "https://js.stripe.com"]
    assert rules["frame-src"] == ["https://js.stripe.com", "https://hooks.stripe.com"]
    assert rules["default-src"] == ["'self'"]


def test_a_key_of_a_stand_in_is_no_real_one() -> None:
    """CMB-56: with a double behind it, the page offers test cards and no foreign script."""
    double = load(environ={}, stripe_publishable_key="pk_test_double", stripe_api_url="http://127.0.0.1:9")
    real = load(environ={}, stripe_publishable_key="pk_live_1")
    assert (card_key(double), card_key(real), card_key(load(environ={}))) == ("", "pk_live_1", "")


def test_only_a_demo_says_where_its_codes_go() -> None:
    """CMB-01: with a real phone network a code reaches the phone and nothing else."""
    boxed: dict[str, Any] = {"twilio_api_url": "http://127.0.0.1:9/"}
    assert codes_of(load(environ={}, **boxed)) == "http://127.0.0.1:9/simulator/messages"
    assert codes_of(load(environ={}, environment="production", **boxed)) == ""
    assert codes_of(load(environ={})) == ""


async def test_the_shortcut_rings_only_for_its_owner(client: Client) -> None:
    """CMB-17, COM-34: opened from the phone's home screen it is the page; a link on another site leads home instead."""
    for ours in ({}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}):
        async with client.get("/call-me", headers=ours) as answer:
            assert answer.status == 200
    for foreign in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": foreign}
        async with client.get("/call-me", headers=headers, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_the_app_can_be_installed(client: Client) -> None:
    """COM-08, CMB-17: a manifest with icons and the shortcut; a worker for the shell, at the scope of the page."""
    async with client.get("/console/manifest.webmanifest", headers=PLAIN) as answer:
        manifest = json.loads(await answer.read())
    assert (manifest["display"], manifest["start_url"], manifest["scope"]) == ("standalone", "/", "/")
    assert "/call-me" in [shortcut["url"] for shortcut in manifest["shortcuts"]]
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    for icon in manifest["icons"]:
        async with client.get(icon["src"]) as answer:
            assert answer.headers["Content-Type"] == "image/svg+xml"
    async with client.get("/console/sw.js", headers=PLAIN) as answer:
        assert answer.headers["Service-Worker-Allowed"] == "/"
        worker = await answer.text()
    found = re.search(r"^const SHELL = (\{.*\});$", worker, re.MULTILINE)
    assert found
    shell = json.loads(found[1])
    assert set(shell["files"]) == {"/", *(f"/console/{name}" for name in FILES if name not in {"index.html", "sw.js"})}
    assert re.fullmatch(r"[0-9a-f]{16}", shell["version"])
    assert "/v1/" not in worker


async def test_a_changed_file_is_a_new_version(tmp_path: Path) -> None:
    """COM-08: an installed app never mixes the files of two versions."""
    (tmp_path / "index.html").write_text("a")
    (tmp_path / "sw.js").write_bytes((CONSOLE / "sw.js").read_bytes())
    first = Pages(tmp_path).version
    (tmp_path / "index.html").write_text("b")
    assert Pages(tmp_path).version != first


def policy(header: str) -> dict[str, list[str]]:
    """A content security policy by its rules."""
    return {name: sources for name, *sources in (rule.split() for rule in header.split("; "))}
