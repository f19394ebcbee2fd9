"""Vectors of what was said, so that it can be found by its meaning: from a provider, or made here from words.

The offline vectors are hashed words. Each word is cut to its stem and, where `paraphrases.toml` knows it, joined by
what it is about ("toothache" and "dentist" are both about teeth); stems, themes, pairs of neighbours and pieces of
words are hashed to places of the vector. They know no language beyond that table, but they need no provider, no
weights and no network, and the same text gives the same vector on every machine for ever.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.settings import Embeddings

DIMENSIONS = 512
SIGNATURE_BITS = 512
TIMEOUT_S = 10.0
BATCH = 128
PARAPHRASES = Path(__file__).with_name("paraphrases.toml")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_VOWELS = frozenset("aeiouy")
_THEME, _REALM, _STEM, _PAIR, _PIECE = 1.0, 0.4, 0.7, 0.35, 0.12  # what a feature of each kind weighs
_WEAK = 0.4  # how much of that a word weighs that is said of much
_PLACES = 2  # of the vector that a feature is added to, so that two rarely share all of theirs
Vector = list[float]


class EmbeddingError(Exception):
    """No vectors came from the provider. Check EMBEDDINGS_URL, EMBEDDINGS_API_KEY and EMBEDDINGS_MODEL."""


class Embedder(Protocol):
    """Something that turns texts into vectors of 512 numbers and length 1."""

    name: str
    """What made a vector; vectors of two names are never compared."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text.

        Raises:
            EmbeddingError
        """
        ...

    async def close(self) -> None:
        """Give connections back."""


def embedder_of(settings: Embeddings) -> Embedder:
    """The embedder that the settings choose."""
    return Provider(settings) if settings.url else HashedWords()


class HashedWords:
    """Vectors of hashed stems and themes: the offline stand-in for a provider."""

    name = "hashed-words-1"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [hashed(text) for text in texts]

    async def close(self) -> None:
        """There is nothing to give back."""


class Provider:
    """An OpenAI-compatible `/embeddings` endpoint.

    Args:
        settings: its address, key and model.
        timeout_s: for one request.
    """

    def __init__(self, settings: Embeddings, timeout_s: float = TIMEOUT_S) -> None:
        self.name = settings.model
        self._url = f"{settings.url.rstrip('/')}/embeddings"
        key = settings.api_key.get_secret_value()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        vectors: list[Vector] = []
        for start in range(0, len(texts), BATCH):
            vectors += await self._ask(list(texts[start : start + BATCH]))
        return vectors

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, texts: list[str]) -> list[Vector]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        asked = {"model": self.name, "input": texts, "dimensions": DIMENSIONS, "encoding_format": "float"}
        try:
            async with self._session.post(self._url, json=asked, headers=self._headers) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise EmbeddingError(f"The embedding provider answered {answer.status}.")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EmbeddingError(f"The embedding provider does not answer: {error!r}.") from error
        return _vectors(body, len(texts))


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Item]


def _vectors(body: bytes, count: int) -> list[Vector]:
    try:
        items = sorted(msgspec.json.decode(body, type=_Answer).data, key=lambda item: item.index)
    except msgspec.MsgspecError as error:
        raise EmbeddingError(f"The embedding provider's answer cannot be read: {error}.") from error
    if [item.index for item in items] != list(range(count)):
        raise EmbeddingError(f"The embedding provider gave {len(items)} vectors for {count} texts.")
    for item in items:
        if len(item.embedding) != DIMENSIONS:
            raise EmbeddingError(f"The model gives {len(item.embedding)} numbers; choose one that gives {DIMENSIONS}.")
    return [unit(item.embedding) for item in items]


def unit(vector: Sequence[float]) -> Vector:
    """The vector at length 1; one of zeros stays as it is.

    Raises:
        EmbeddingError: it holds something that is no number.
    """
    length = math.sqrt(sum(number * number for number in vector))
    if not math.isfinite(length):
        raise EmbeddingError("The embedding provider gave something that is no number.")
    return [number / length for number in vector] if length else list(vector)


def signature(vector: Sequence[float]) -> str:
    """On which side of 512 planes a vector lies, as a bit string: the fewer bits differ, the nearer two vectors are."""
    sides = _planes() @ np.asarray(vector, np.float32) > 0
    return (sides + np.uint8(ord("0"))).astype(np.uint8).tobytes().decode()


@lru_cache(maxsize=1)
def _planes() -> NDArray[np.float32]:
    """The planes: the same on every machine, at no angle to the axes that any vector would prefer."""
    noise = hashlib.shake_256(b"ringdown:planes").digest(SIGNATURE_BITS * DIMENSIONS // 8)
    signs = np.unpackbits(np.frombuffer(noise, np.uint8)).astype(np.float32) * 2 - 1
    return signs.reshape(SIGNATURE_BITS, DIMENSIONS)


# -- words


def words_of(text: str) -> list[str]:
    """The words of a text in order, in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("’", "'"))
    plain = "".join(mark for mark in plain if not unicodedata.combining(mark))
    return [word.partition("'")[0] for word in _WORD.findall(plain)]


def stems(words: Sequence[str]) -> list[str]:
    """The words that carry meaning, each cut to its stem."""
    empty = _table().empty
    return [stem(word) for word in words if word not in empty and (len(word) > 1 or word.isdigit())]


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """An English word without its ending: plural, -ing, -ed, -ly and the like. Other words are left alone."""
    word = _irregular().get(word, word)
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and _VOWELS & set(word[: -len(ending)]) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]  # running, runn, run
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 2 and word.endswith("y") else word


_ENDINGS = (
    ("iness", "y"), ("ically", "ic"), ("ations", "at"), ("ation", "at"), ("ingly", ""), ("edly", ""), ("ies", "y"),
    ("ied", "y"), ("ments", ""), ("ment", ""), ("ness", ""), ("ings", ""), ("ing", ""), ("sses", "ss"), ("ches", "ch"),
    ("shes", "sh"), ("xes", "x"), ("ers", ""), ("er", ""), ("ed", ""), ("ly", ""), ("es", "e"),
    ("ss", "ss"), ("us", "us"), ("is", "is"), ("s", ""),
)  # fmt: skip


def hashed(text: str) -> Vector:
    """The vector of a text by its hashed words; zeros for a text without any."""
    said = words_of(text)
    words = stems(said)
    weights: defaultdict[str, float] = defaultdict(float)
    for word in dict.fromkeys(words):
        share = _WEAK if word in _table().weak else 1.0
        weights["s:" + word] += _STEM * share
        for piece in _pieces(word):
            weights["p:" + piece] += _PIECE * share
    for theme, share in _themes([stem(word) for word in said]).items():
        weights["t:" + theme] += _THEME * math.sqrt(share)
    for first, second in itertools.pairwise(words):
        weights[f"n:{first} {second}"] += _PAIR
    vector = [0.0] * DIMENSIONS
    for feature, weight in weights.items():
        for place, sign in _places(feature):
            vector[place] += sign * weight
    return unit(vector)


def _themes(words: Sequence[str]) -> dict[str, float]:
    """How often the words are about what, as far as the table knows; longer phrases go before the words in them."""
    table, at = _table(), 0
    themes: defaultdict[str, float] = defaultdict(float)
    while at < len(words):
        for length in range(min(table.longest, len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            if found := table.themes.get(phrase):
                for theme, share in found.items():
                    themes[theme] += share * (_WEAK if phrase in table.weak else 1.0)
                at += length - 1
                break
        at += 1
    return themes


def _pieces(word: str) -> set[str]:
    """The word's runs of four letters, its ends marked: they find a word that was misheard or written otherwise."""
    marked = f"^{word}$"
    return {marked[at : at + 4] for at in range(len(marked) - 3)}


@lru_cache(maxsize=16384)
def _places(feature: str) -> tuple[tuple[int, float], ...]:
    digest = hashlib.blake2b(feature.encode(), digest_size=4 * _PLACES).digest()
    numbers = (int.from_bytes(digest[at : at + 4]) for at in range(0, len(digest), 4))
    return tuple((number % DIMENSIONS, 1.0 if number >> 31 else -1.0) for number in numbers)


@lru_cache(maxsize=1)
def _irregular() -> dict[str, str]:
    class File(msgspec.Struct):
        irregular: dict[str, str]

    forms = msgspec.toml.decode(PARAPHRASES.read_bytes(), type=File).irregular["forms"]
    return dict(pair.split("-") for pair in forms.split())


class _Table(msgspec.Struct, frozen=True):
    empty: frozenset[str]
    weak: frozenset[str]
    themes: dict[str, dict[str, float]]  # of a phrase: its themes, and the realms of these, with what they weigh
    longest: int


@lru_cache(maxsize=1)
def _table() -> _Table:
    class File(msgspec.Struct, forbid_unknown_fields=True):
        empty: str
        weak: str
        themes: dict[str, str]
        realms: dict[str, str]
        irregular: dict[str, str]

    file = msgspec.toml.decode(PARAPHRASES.read_bytes(), type=File)
    found: dict[str, dict[str, float]] = {}
    for theme, phrases in file.themes.items():
        realms = {f"realm {realm}": _REALM for realm, themes in file.realms.items() if theme in themes.split()}
        for phrase in phrases.split(","):
            found.setdefault(" ".join(stem(word) for word in phrase.split()), {}).update({theme: 1.0} | realms)
    return _Table(
        empty=frozenset(file.empty.split()),
        weak=frozenset(stem(word) for word in file.weak.split()),
        themes=found,
        longest=max(len(phrase.split()) for phrase in found),
    )
