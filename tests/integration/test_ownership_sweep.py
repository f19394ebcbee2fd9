"""Two users, every operation: neither can read, change or even notice what is the other's.

The sweep is made from the list of operations, so a new route is swept the day it is written; one whose path names a
thing that nobody owns here yet fails until `tests/doubles/belongings.py` makes one.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from infra.ids import new_id
from tests.doubles.belongings import Belongings, all_of, belongings
from tests.doubles.front import Front
from tests.doubles.whole import whole
from transports.http.api import ID, Operation
from transports.http.openapi import document, example_body, kinds
from transports.http.problems import PROBLEMS
from transports.http.routes import operations

ANSWER_SECONDS = 5.0
# Variables of paths that name no possession of anybody's.
NOBODYS = {"provider": "nobody", "voice": "af_heart", "erasure": "erasure_" + "0" * 32}
# What a body may call a thing of somebody's, by the variable that a path calls it.
IN_BODIES = {"persona": "persona", "number": "number", "call": "call", "method": "method", "scheduled": "scheduled"}
ID_LIKE = "call_" + "0" * 32
OWN = [made for made in operations() if made.who == "user"]
SECURED = [made for made in operations() if made.who != "public"]


@dataclass
class Two:
    """The gateway with two users, each of whom owns one of everything."""

    gateway: Front
    ada: Belongings
    bob: Belongings
    as_ada: dict[str, str]
    as_bob: dict[str, str]

    async def ask(
        self, made: Operation, path: str, headers: dict[str, str], body: Any = None
    ) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers; of a stream only as much as comes at once."""
        options: dict[str, Any] = {} if body is None else {"json": body}
        async with self.gateway.client.request(
            made.method, path, headers=headers, allow_redirects=False, **options
        ) as answer:
            told = await beginning(answer) if made.media else await answer.read()
            return answer.status, told.decode(errors="replace"), dict(answer.headers)


async def beginning(answer: aiohttp.ClientResponse) -> bytes:
    if answer.content_type != "text/event-stream":
        return await answer.read()
    try:
        async with asyncio.timeout(0.3):
            return await answer.content.read(65_536)
    except TimeoutError:
        return b""


@pytest_asyncio.fixture
async def two(database_url: str) -> AsyncIterator[Two]:
    async with whole(database_url) as gateway:
        (ada_id, as_ada), (bob_id, as_bob) = await gateway.join(), await gateway.join()
        vault = gateway.services.vault
        ada = await belongings(gateway.connections, vault, ada_id)
        bob = await belongings(gateway.connections, vault, bob_id)
        yield Two(gateway, ada, bob, as_ada, as_bob)


def paths(made: Operation, owned: Belongings) -> Iterator[str]:
    """The operation's addresses, for every thing of the owner's that it may name."""
    found = [made.path]
    for name in made.variables:
        values = owned.ids.get(name) or [NOBODYS[name]]
        found = [path.replace(f"{{{name}}}", value) for path in found for value in values]
    yield from found


def bodies(made: Operation, mine: Belongings, theirs: Belongings) -> Iterator[Any]:
    """The example of the operation's body with my own things in it, then with somebody else's, one at a time."""
    if made.body is None:
        yield None
        return
    schemas = document([made], "https://x")["components"]["schemas"]
    example = example_body(made)
    if not isinstance(example, dict):
        yield example
        return
    own = copy.deepcopy(example)
    possible = fields(made, schemas)
    named = [name for name in IN_BODIES if name in possible and re.fullmatch(ID, str(own.get(name, ID_LIKE)))]
    for name in named:
        own[name] = mine.ids[IN_BODIES[name]][0]
    if "order" in own:
        own["order"] = list(mine.ids["persona"])
    yield own
    for name in named:
        yield own | {name: theirs.ids[IN_BODIES[name]][0]}
    if "order" in own:
        yield own | {"order": list(theirs.ids["persona"])}


def fields(made: Operation, schemas: dict[str, Any]) -> set[str]:
    return set(getattr(made.body, "__struct_fields__", ())) & {
        name for schema in schemas.values() for name in schema.get("properties", {})
    }


@pytest.mark.parametrize("made", OWN, ids=lambda made: made.name)
def test_every_variable_of_a_path_names_something_that_is_swept(made: Operation) -> None:
    """COM-30: no route is left out because nobody thought of it."""
    known = {"number", "persona", "session", "device", "method", "scheduled", "identity", "call"} | set(NOBODYS)
    assert set(made.variables) <= known, "give it to people in tests/doubles/belongings.py"


async def test_nobody_gets_in_without_saying_who_they_are(two: Two) -> None:
    """COM-30, COM-31: 401 on every operation that is not public, whatever else is wrong with the request."""
    wrong = []
    for made in SECURED:
        for path in paths(made, two.ada):
            status, told, headers = await two.ask(made, path, {})
            if status != 401 or "WWW-Authenticate" not in headers or leaks(told, two.ada):
                wrong.append(f"{made.method} {path}: {status} {told[:200]}")
    assert not wrong, "\n".join(wrong)


async def test_users_are_no_operators(two: Two) -> None:
    """COM-30: 403 on every operation that is for operators."""
    for made in SECURED:
        if made.who == "operator":
            for path in paths(made, two.ada):
                assert (await two.ask(made, path, two.as_bob))[0] == 403, made.name


async def test_no_operation_shows_or_changes_what_is_anothers(two: Two) -> None:
    """COM-30: every operation with every id of the other's, in the path and in the body; then the other's rows are as
    they were, and no answer held a word of theirs."""
    gateway = two.gateway
    before = await all_of(gateway.connections, two.ada.owner)
    assert sum(len(rows) for rows in before.values()) > 12, "there is something to be seen"
    wrong: list[str] = []
    for made in sorted(OWN, key=lambda made: made.method == "DELETE"):
        for path in paths(made, two.ada) if set(made.variables) & set(two.ada.ids) else paths(made, two.bob):
            for body in bodies(made, two.bob, two.ada):
                status, told, headers = await two.ask(made, path, two.as_bob, body)
                documented = {made.status, *(PROBLEMS[kind][0] for kind in kinds(made))}
                foreign = bool(set(made.variables) & set(two.ada.ids))
                if status not in documented or (foreign and status < 400) or leaks(told, two.ada, path, body, headers):
                    wrong.append(f"{made.method} {path} {json.dumps(body)[:200]}: {status} {told[:300]}")
    after = await all_of(gateway.connections, two.ada.owner)
    wrong += [f"rows of {table} changed" for table in before if after[table] != before[table]]
    assert not wrong, "\n".join(wrong)
    assert gateway.hang_ups() == []
    assert gateway.carrier.ended == []


async def test_what_is_anothers_is_answered_as_what_does_not_exist(two: Two) -> None:
    """COM-30: word for word, so that nobody learns which ids there are."""
    wrong: list[str] = []
    for made in OWN:
        if not set(made.variables) & set(two.ada.ids):
            continue
        for body in bodies(made, two.bob, two.ada):
            told = []
            nothing = {name: [new_id(found[0].partition("_")[0])] for name, found in two.ada.ids.items()}
            for owned in (two.ada, Belongings("", "", nothing)):
                for path in list(paths(made, owned))[:1]:
                    status, text, _ = await two.ask(made, path, two.as_bob, body)
                    told.append((status, re.sub(ID, "ID", text)))
            if told[0] != told[1]:
                wrong.append(f"{made.method} {made.path}: {told}")
    assert not wrong, "\n".join(wrong)


async def test_what_is_their_own_people_do_see(two: Two) -> None:
    """COM-30: the sweep would also pass if nobody could see anything; so whoever owns it can read it."""
    wrong: list[str] = []
    for made in OWN:
        if made.method != "GET" or not set(made.variables) & set(two.ada.ids):
            continue
        told = [await two.ask(made, path, two.as_ada) for path in paths(made, two.ada)]
        if not any(status == made.status or "no-recording" in text for status, text, _ in told):
            wrong.append(f"{made.path}: {told[0][:2]}")
    assert not wrong, "\n".join(wrong)


async def test_every_example_of_a_body_is_taken_by_the_server(two: Two) -> None:
    """CMB-11: with one's own things in it, no example of the documentation breaks a rule or the server."""
    wrong: list[str] = []
    for made in sorted((made for made in OWN if made.body is not None), key=lambda made: made.method == "DELETE"):
        path = next(paths(made, two.ada))
        body = next(bodies(made, two.ada, two.bob))
        status, told, _ = await two.ask(made, path, two.as_ada, body)
        if status >= 500 or status in {400, 415} or "invalid-field" in told:
            wrong.append(f"{made.method} {made.path} {json.dumps(body)}: {status} {told[:300]}")
    assert not wrong, "\n".join(wrong)


def leaks(
    told: str, owned: Belongings, path: str = "", body: Any = None, headers: dict[str, str] | None = None
) -> bool:
    """Whether an answer holds something of somebody's that the request did not say itself."""
    said = path + json.dumps(body)
    shown = told + json.dumps(headers or {})
    return any(secret in shown and secret not in said for secret in owned.secrets)
