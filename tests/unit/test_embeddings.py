"""Vectors made of words: stable for ever, and near where people mean the same."""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from infra.embeddings import (
    DIMENSIONS,
    PARAPHRASES,
    SIGNATURE_BITS,
    EmbeddingError,
    HashedWords,
    Provider,
    embedder_of,
    hashed,
    signature,
    stem,
    stems,
    words_of,
)
from infra.settings import Embeddings


def closeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(hashed(one), hashed(other), strict=True))


def test_the_same_text_gives_the_same_vector_on_every_machine() -> None:
    """COM-07: vectors outlive processes and versions of Python; no salt, no float that drifts. Whoever changes what is
    hashed gives it another name (`HashedWords.name`), so that old vectors are not compared with new ones.
    """
    vector = hashed("My tooth has been aching since Tuesday.")
    strongest = sorted(range(DIMENSIONS), key=lambda at: (-abs(vector[at]), at))[:4]
    assert [(at, round(vector[at], 4)) for at in strongest] == [
        (396, 0.5129),
        (96, -0.3379),
        (137, 0.3017),
        (283, 0.3017),
    ]


@runs(deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_vector_of_length_one_or_none_at_all(text: str) -> None:
    vector = hashed(text)
    assert len(vector) == DIMENSIONS
    length = math.sqrt(sum(number * number for number in vector))
    assert math.isclose(length, 1.0) if stems(words_of(text)) else length in (0.0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("said", "asked", "other"),
    [
        ("The dentist found a cavity.", "problems with my teeth", "The cat ran away."),
        ("I was laid off this morning.", "when I lost my job", "I bought a sofa."),
        ("We are expecting twins.", "pregnancy", "We are moving to Oslo."),
    ],
)
def test_other_words_for_the_same_are_nearer_than_words_for_something_else(said: str, asked: str, other: str) -> None:
    """CMB-48."""
    assert closeness(said, asked) > closeness(other, asked) + 0.1


def test_the_signatures_of_near_vectors_differ_in_few_bits() -> None:
    """COM-07: what a search looks at first is a good guess at what the vectors will say."""

    def apart(one: str, other: str) -> int:
        return sum(a != b for a, b in zip(signature(hashed(one)), signature(hashed(other)), strict=True))

    said = "The dentist found a cavity in my tooth."
    assert len(signature(hashed(said))) == SIGNATURE_BITS
    assert apart(said, said) == 0
    assert apart(said, "problems with my teeth") < apart(said, "we are moving to Oslo") - 40


@pytest.mark.parametrize(
    ("one", "other"),
    [("running", "ran"), ("teeth", "tooth"), ("houses", "house"), ("worries", "worry"), ("stolen", "steals"),
     ("babies", "baby"), ("appointments", "appointment"), ("boxes", "box"), ("happiness", "happy")],
)  # fmt: skip
def test_endings_make_no_difference(one: str, other: str) -> None:
    assert stem(one) == stem(other)


def test_the_table_of_paraphrases_holds_nothing_that_can_never_match() -> None:
    """A word that says nothing is no subject; a realm is made of themes that exist."""
    file = tomllib.loads(PARAPHRASES.read_text())
    empty = set(file["empty"].split())
    phrases = [phrase for text in file["themes"].values() for phrase in text.split(", ")]
    assert [phrase for phrase in phrases if phrase in empty or not phrase.strip()] == []
    assert [theme for text in file["realms"].values() for theme in text.split() if theme not in file["themes"]] == []
    for theme, text in file["themes"].items():
        assert len(text.split(", ")) == len(set(text.split(", "))), theme


class Service:
    """An OpenAI-compatible endpoint that answers as told."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.status = 200
        self.body: bytes | None = None
        self.size = DIMENSIONS

    async def answer(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.asked.append(asked)
        self.headers.append(request.headers.get("Authorization"))
        items = [{"index": n, "embedding": [3.0] + [0.0] * (self.size - 1)} for n in range(len(asked["input"]))]
        body = self.body or json.dumps({"data": items[::-1]}).encode()
        return web.Response(status=self.status, body=body, content_type="application/json")

    def serve(self) -> TestServer:
        app = web.Application()
        app.router.add_post("/v1/embeddings", self.answer)
        return TestServer(app)


def settings(server: BaseTestServer) -> Embeddings:
    return Embeddings(url=f"{server.make_url('/v1')}/", api_key="key", model="m")  # type: ignore[arg-type]


async def test_a_provider_is_asked_in_batches_for_vectors_of_our_size() -> None:
    """COM-07: a provider by its address."""
    service = Service()
    async with service.serve() as server:
        provider = embedder_of(settings(server))
        assert isinstance(provider, Provider)
        vectors = await provider.embed([f"text {n}" for n in range(130)])
        await provider.close()
    assert [len(asked["input"]) for asked in service.asked] == [128, 2]
    assert service.asked[0]["dimensions"] == DIMENSIONS
    assert set(service.headers) == {"Bearer key"}
    assert vectors[129] == [1.0] + [0.0] * (DIMENSIONS - 1)


@pytest.mark.parametrize(
    ("status", "body", "size", "told"),
    [
        (503, None, DIMENSIONS, "answered 503"),
        (200, b"<html>", DIMENSIONS, "cannot be read"),
        (200, b'{"data": []}', DIMENSIONS, "0 vectors for 1"),
        (200, None, 1536, "gives 1536 numbers"),
        (200, b'{"data": [{"index": 0, "embedding": [1e400]}]}', DIMENSIONS, "cannot be read|1 numbers"),
    ],
)
async def test_an_answer_that_is_no_vectors_is_told_as_what_it_is(
    status: int, body: bytes | None, size: int, told: str
) -> None:
    service = Service()
    service.status, service.body, service.size = status, body, size
    async with service.serve() as server:
        provider = Provider(settings(server))
        with pytest.raises(EmbeddingError, match=told):
            await provider.embed(["text"])
        await provider.close()


async def test_a_provider_that_cannot_be_reached_is_told_as_such() -> None:
    provider = Provider(Embeddings(url="http://127.0.0.1:9", model="m"))
    with pytest.raises(EmbeddingError, match="does not answer"):
        await provider.embed(["text"])
    await provider.close()


async def test_without_an_address_the_vectors_are_made_here() -> None:
    embedder = embedder_of(Embeddings())
    assert isinstance(embedder, HashedWords)
    assert await embedder.embed(["a tooth"]) == [hashed("a tooth")]
    await embedder.close()
