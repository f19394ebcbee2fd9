"""How operations are served: who may ask, what is refused and how, what every answer bears."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from infra.cursors import cursor_of
from infra.ids import new_id
from tests.doubles.front import PUBLIC, Front, People, front, problem
from tests.doubles.notebook import Note, Notebook

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest_asyncio.fixture
async def gateway(database_url: str, notebook: Notebook) -> AsyncIterator[Front]:
    settings: dict[str, Any] = {"node_allowed_origins": "https://app.example.com"}
    async with front(database_url, people=People(), operations=notebook.operations(), **settings) as opened:
        yield opened


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic dG9rZW4="},
        {"Cookie": "ringdown_access=nonsense"},
    ],
)
async def test_who_is_not_signed_in_is_told_how_to_be(gateway: Front, headers: dict[str, str]) -> None:
    """COM-31: 401 with WWW-Authenticate, before anything is read."""
    for method, path in (("GET", "/v1/notes"), ("POST", "/v1/notes"), ("GET", "/v1/notes/nonsense")):
        async with gateway.client.request(method, path, headers=headers) as answer:
            assert await problem(answer) == (401, "not-authorised")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_consoles_cookie_needs_its_csrf_token_to_change_something(gateway: Front, notebook: Notebook) -> None:
    """COM-34: another site's page can send our cookie, but cannot read the other one."""
    _, ada = await gateway.join()
    token = ada["Authorization"].removeprefix("Bearer ")
    cookies = f"ringdown_access={token}; ringdown_csrf=c5rf"
    async with gateway.client.get("/v1/notes", headers={"Cookie": cookies}) as answer:
        assert answer.status == 200
    for given in ({}, {"X-CSRF": ""}, {"X-CSRF": "other"}, {"X-CSRF": "schlüssel"}):
        async with gateway.client.post("/v1/notes", json={"text": "x"}, headers={"Cookie": cookies} | given) as answer:
            assert await problem(answer) == (403, "csrf-missing")
    without = {"Cookie": f"ringdown_access={token}; ringdown_csrf=", "X-CSRF": ""}
    async with gateway.client.post("/v1/notes", json={"text": "x"}, headers=without) as answer:
        assert await problem(answer) == (403, "csrf-missing")
    assert notebook.notes == []
    proven = {"Cookie": cookies, "X-CSRF": "c5rf"}
    async with gateway.client.post("/v1/notes", json={"text": "x"}, headers=proven) as answer:
        assert answer.status == 201


async def test_cookies_are_kept_from_scripts_and_other_sites(gateway: Front) -> None:
    """COM-34: HttpOnly, SameSite=Strict, Secure where the address is https."""
    async with gateway.client.post("/v1/cookies") as answer:
        assert answer.status == 204
        access, csrf = answer.headers.getall("Set-Cookie")
    assert access.startswith("ringdown_access=abc;")
    assert csrf.startswith("ringdown_csrf=x;")
    for cookie in (access, csrf):
        assert "SameSite=Strict" in cookie
        assert "Secure" in cookie
        assert "Path=/" in cookie
    assert ("HttpOnly" in access, "HttpOnly" in csrf) == (True, False)


@pytest.mark.parametrize("field", ["access_token", "refresh_token", "token", "api_key", "password"])
async def test_a_token_in_the_address_is_refused(gateway: Front, field: str) -> None:
    """COM-34: addresses are logged; a token there proves nothing and is to be revoked."""
    _, ada = await gateway.join()
    async with gateway.client.get(f"/v1/notes/{new_id('note')}?{field}=abc", headers=ada) as answer:
        assert await problem(answer) == (400, "token-in-address")
    token = ada["Authorization"].removeprefix("Bearer ")
    async with gateway.client.get(f"/v1/notes?{field}={token}") as answer:
        assert await problem(answer) == (401, "not-authorised")


async def test_pages_of_other_origins_are_refused_and_listed_ones_are_let_in(gateway: Front) -> None:
    """COM-34: before who asks is looked at; and a browser that asks first is told the same."""
    _, ada = await gateway.join()
    foreign = {"Origin": "https://evil.example"}
    async with gateway.client.get("/v1/notes", headers=ada | foreign) as answer:
        assert await problem(answer) == (403, "foreign-origin")
        assert "Access-Control-Allow-Origin" not in answer.headers
    listed = {"Origin": "https://app.example.com"}
    async with gateway.client.get("/v1/notes", headers=ada | listed) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
    async with gateway.client.get("/v1/notes", headers=ada | {"Origin": PUBLIC}) as answer:
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_browser_that_asks_before_it_asks_is_answered(gateway: Front) -> None:
    """COM-34: CORS preflight."""
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    origin = {"Origin": "https://app.example.com"}
    async with gateway.client.options("/v1/notes", headers=origin | wanted) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    async with gateway.client.options("/v1/notes", headers={"Origin": "https://evil.example"} | wanted) as answer:
        assert await problem(answer) == (403, "foreign-origin")


async def test_every_answer_bears_what_keeps_a_browser_safe(gateway: Front) -> None:
    """COM-34: errors and pages, too; and nothing says what the server is made of."""
    _, ada = await gateway.join()
    for path in ("/v1/notes", "/v1/nowhere", "/healthz", "/operator", "/nowhere"):
        async with gateway.client.get(path, headers=ada) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
            assert answer.headers["Server"] == "ringdown"
            assert ("no-store" in answer.headers.get("Cache-Control", "")) == path.startswith("/v1/")


async def test_what_is_not_there_and_what_cannot_be_done_say_what_can(gateway: Front) -> None:
    """COM-31: 404 and 405 are problem documents, with Allow."""
    _, ada = await gateway.join()
    async with gateway.client.get("/v1/nowhere", headers=ada) as answer:
        assert await problem(answer) == (404, "not-found")
        assert "/reference" in (await answer.json())["detail"]
    async with gateway.client.put("/v1/notes", headers=ada) as answer:
        assert await problem(answer) == (405, "method-not-allowed")
        assert {"DELETE", "GET", "POST"} <= set(answer.headers["Allow"].split(", "))
        assert "GET" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    "note", ["nonsense", "note_", "note_" + "0" * 31, "note_" + "G" * 32, "note_" + "0" * 33, "%00"]
)
async def test_an_id_that_cannot_be_ours_is_not_there(gateway: Front, note: str) -> None:
    """COM-30: as an unknown one and a stranger's."""
    _, ada = await gateway.join()
    async with gateway.client.get(f"/v1/notes/{note}", headers=ada) as answer:
        assert await problem(answer) == (404, "note-not-found")


async def test_a_strangers_thing_is_as_one_that_does_not_exist(gateway: Front, notebook: Notebook) -> None:
    """COM-30: 404, word for word."""
    (ada_id, _), (_, bob) = await gateway.join(), await gateway.join()
    notebook.notes.append(Note(new_id("note"), ada_id, "mine"))
    told = []
    for note in (notebook.notes[0].id, new_id("note")):
        async with gateway.client.get(f"/v1/notes/{note}", headers=bob) as answer:
            told.append(await answer.text())
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("limit=0", "limit", "Expected `int` >= 1"),
        ("limit=101", "limit", "Expected `int` <= 100"),
        ("limit=many", "limit", "Expected `int`, got `str`"),
        ("word=" + "x" * 21, "word", "Expected `str` of length <= 20"),
        ("rude=perhaps", "rude", "Expected `bool`, got `str`"),
        ("unknown=1", "", "Object contains unknown field `unknown`"),
        ("limit=1&limit=2", "", ""),
        ("word=%00", "", ""),
    ],
)
async def test_a_query_that_breaks_a_rule_is_told_which_field_and_rule(
    gateway: Front, query: str, field: str, rule: str
) -> None:
    """CMB-12: 422, for a person and for a program."""
    _, ada = await gateway.join()
    async with gateway.client.get(f"/v1/notes?{query}", headers=ada) as answer:
        assert await problem(answer) == (422, "invalid-field")
        told = await answer.json()
        assert (told.get("field", ""), told.get("rule", "")) == (field, rule)


@pytest.mark.parametrize("after", ["nonsense", cursor_of("call", dt.datetime.now(dt.UTC)), "%FF", ""])
async def test_a_cursor_of_another_list_is_refused(gateway: Front, after: str) -> None:
    """COM-32: 422, never somebody else's rows."""
    _, ada = await gateway.join()
    async with gateway.client.get(f"/v1/notes?after={after}", headers=ada) as answer:
        assert await problem(answer) == (422, "invalid-cursor")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ('{"text": ""}', 422, "invalid-field"),
        ('{"text": "' + "x" * 21 + '"}', 422, "invalid-field"),
        ('{"text": 7}', 422, "invalid-field"),
        ('{"text": "x", "stars": 6}', 422, "invalid-field"),
        ('{"text": "x", "owner": "user_1"}', 422, "invalid-field"),
        ('{"text": "x\\u0000y"}', 422, "invalid-field"),
        ("[" * 20_000, 422, "invalid-field"),
        ('{"text": "\\ud800"}', 400, "malformed-json"),
        ('{"text": "x"', 400, "malformed-json"),
        ("", 400, "malformed-json"),
    ],
)
async def test_a_body_that_breaks_a_rule_is_refused(gateway: Front, body: str, status: int, kind: str) -> None:
    """CMB-12: never a 5xx."""
    _, ada = await gateway.join()
    async with gateway.client.post("/v1/notes", data=body, headers=ada | JSON) as answer:
        assert await problem(answer) == (status, kind)


async def test_a_field_that_breaks_a_rule_is_named(gateway: Front) -> None:
    """CMB-12: by its path in the body."""
    _, ada = await gateway.join()
    async with gateway.client.post("/v1/notes", json={"text": "x", "stars": 9}, headers=ada) as answer:
        told = await answer.json()
    assert (told["field"], told["rule"]) == ("stars", "Expected `int` <= 5")


async def test_a_form_is_not_json_and_too_much_is_too_much(gateway: Front) -> None:
    """COM-31: 415 and 413."""
    _, ada = await gateway.join()
    async with gateway.client.post("/v1/notes", data={"text": "x"}, headers=ada) as answer:
        assert await problem(answer) == (415, "not-json")
    async with gateway.client.post("/v1/notes", data=b" " * 100_000, headers=ada | JSON) as answer:
        assert await problem(answer) == (413, "body-too-large")


async def test_pages_skip_and_repeat_nothing_while_notes_come_in(gateway: Front, notebook: Notebook) -> None:
    """COM-32, CMB-46: rows that are written meanwhile move nothing."""
    ada_id, ada = await gateway.join()
    before = [Note(new_id("note"), ada_id, f"note {number}") for number in range(25)]
    before.sort(key=lambda note: note.id)
    notebook.notes += before
    seen: list[str] = []
    after: str | None = None
    while True:
        query = "limit=4" + (f"&after={after}" if after else "")
        async with gateway.client.get(f"/v1/notes?{query}", headers=ada) as answer:
            told = await answer.json()
        seen += [note["id"] for note in told["items"]]
        notebook.notes.append(Note(new_id("note"), ada_id, "meanwhile"))
        after = told["next"]
        if after is None:
            break
    assert seen == [note.id for note in reversed(before)]


async def test_an_operator_is_known_by_token_or_by_role(database_url: str) -> None:
    """COM-77, COM-34: users of that role may see what operators see, others may not."""
    async with front(database_url, people=People(), node_operator_token="s3cret") as gateway:
        _, ada = await gateway.join()
        _, root = await gateway.join("operator")
        expected = {
            "nobody": ({}, 401),
            "a user": (ada, 403),
            "an operator": (root, 200),
            "the token": ({"Authorization": "Bearer s3cret"}, 200),
        }
        for name, (headers, status) in expected.items():
            async with gateway.client.get("/v1/operator/calls", headers=headers) as answer:
                assert answer.status == status, name


async def test_in_production_nobody_is_an_operator_without_a_token(database_url: str) -> None:
    """COM-77: the lock that is missing locks."""
    async with front(database_url, environment="production") as locked, locked.client.get("/v1/operator/calls") as told:
        assert await problem(told) == (401, "not-authorised")


async def test_the_document_of_the_api_is_served(database_url: str) -> None:
    """COM-31, CMB-11: OpenAPI 3.1 for everybody, from the address it is about."""
    async with front(database_url) as gateway, gateway.client.get("/v1/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        told = json.loads(await answer.text())
    assert told["servers"] == [{"url": PUBLIC}]
    assert "/v1/operator/calls/{call}" in told["paths"]


@pytest.mark.parametrize(
    "sent", [b"GET /v1/notes?word=" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01 no HTTP\r\n\r\n"]
)
async def test_what_is_no_http_is_answered_with_a_problem_document(gateway: Front, sent: bytes) -> None:
    """COM-31: even what no route ever sees; and it ends the connection."""
    port = gateway.client.port
    assert port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        told = (await reader.read()).decode()
    writer.close()
    assert told.startswith(("HTTP/1.1 400 ", "HTTP/1.0 400 "))
    assert "application/problem+json" in told
    assert "malformed-request" in told
    assert "Server: ringdown" in told


async def test_an_error_of_ours_tells_nothing_internal(gateway: Front, notebook: Notebook) -> None:
    """COM-31, COM-35: what broke stays in the log."""
    _, ada = await gateway.join()
    notebook.failure = RuntimeError("password=hunter2 at /srv/ringdown/secrets.py")
    async with gateway.client.post("/v1/notes", json={"text": "x"}, headers=ada) as answer:
        assert await problem(answer) == (500, "internal")
        assert not re.search("hunter2|srv|RuntimeError|Traceback", await answer.text())
