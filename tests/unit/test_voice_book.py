"""The voice book: what may be chosen, what is checked with the provider, what is known of withdrawn voices."""

from __future__ import annotations

import pytest

from bots.models.port import Rejected, TimedOut
from bots.speech.voices.espeak import Style, espeak
from bots.voices import (
    AGAIN_SECONDS,
    FRESH_SECONDS,
    UnknownVoiceError,
    VoiceBook,
    VoiceCard,
    VoicesAway,
    book_of,
    espeak_voices,
)
from infra.settings import Settings, load


class Maker:
    """A provider with two voices on its list and one that only a direct question finds."""

    def __init__(self) -> None:
        self.listed = {"rachel": "Rachel", "domi": "Domi"}
        self.unlisted = {"shared"}
        self.away = False
        self.asked: list[str] = []

    async def available(self) -> tuple[VoiceCard, ...]:
        self._answer("list")
        return tuple(VoiceCard(key, name) for key, name in self.listed.items())

    async def check(self, voice_id: str) -> VoiceCard:
        self._answer(voice_id)
        if voice_id not in self.listed and voice_id not in self.unlisted:
            raise UnknownVoiceError(voice_id)
        return VoiceCard(voice_id, voice_id)

    async def preview(self, voice_id: str) -> bytes:
        self._answer(voice_id)
        if voice_id not in self.listed:
            raise Rejected("no such voice")
        return b"mp3"

    async def close(self) -> None:
        self.asked.append("close")

    def _answer(self, question: str) -> None:
        self.asked.append(question)
        if self.away:
            raise TimedOut("no answer")


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(maker: Maker, clock: Clock) -> VoiceBook:
    return VoiceBook(maker, "elevenlabs", clock)


async def test_a_voice_is_checked_with_the_provider_and_an_unknown_one_refused(book: VoiceBook) -> None:
    """CMB-42, COM-81."""
    await book.available()
    assert (await book.check("elevenlabs:rachel")).name == "Rachel"
    assert (await book.check("elevenlabs:shared")).id == "elevenlabs:shared"
    assert (await book.check("house:mia")).category == "house"
    for odd in ("elevenlabs:nobody", "espeak:en-us", "elevenlabs:../v1", "elevenlabs:", "rachel", "house:nobody"):
        with pytest.raises(UnknownVoiceError):
            await book.check(odd)


async def test_the_provider_is_asked_for_its_list_once_in_five_minutes(
    book: VoiceBook, maker: Maker, clock: Clock
) -> None:
    for _ in range(3):
        assert {"house:mia", "elevenlabs:domi"} <= {card.id for card in await book.available()}
    clock.at += FRESH_SECONDS
    del maker.listed["domi"]
    assert "elevenlabs:domi" not in {card.id for card in await book.available()}
    assert maker.asked == ["list", "list"]


async def test_a_voice_that_was_withdrawn_is_known_and_one_that_is_merely_unlisted_is_not(
    book: VoiceBook, maker: Maker, clock: Clock
) -> None:
    """CMB-42: a voice withdrawn later."""
    used = ["elevenlabs:domi", "elevenlabs:rachel", "elevenlabs:shared", "house:mia", ""]
    assert await book.withdrawn(used) == frozenset()
    del maker.listed["domi"]
    clock.at += FRESH_SECONDS
    assert await book.withdrawn(used) == {"elevenlabs:domi"}


async def test_while_the_provider_is_away_no_voice_counts_as_withdrawn_and_the_old_list_stands(
    book: VoiceBook, maker: Maker, clock: Clock
) -> None:
    """CMB-42: an outage flags nobody."""
    await book.available()
    maker.away = True
    clock.at += FRESH_SECONDS
    with pytest.raises(VoicesAway):
        await book.withdrawn(["elevenlabs:domi"])
    assert "elevenlabs:domi" in {card.id for card in await book.available()}
    assert (await book.check("elevenlabs:domi")).name == "Domi"
    with pytest.raises(VoicesAway):
        await book.check("elevenlabs:unseen")
    lists = maker.asked.count("list")
    clock.at += AGAIN_SECONDS
    maker.away = False
    assert await book.withdrawn(["elevenlabs:domi"]) == frozenset()
    assert maker.asked.count("list") == lists + 1


async def test_a_provider_that_never_answered_is_told_as_such(book: VoiceBook, maker: Maker) -> None:
    maker.away = True
    with pytest.raises(VoicesAway):
        await book.available()


async def test_a_sample_is_had_of_the_providers_voices_only(book: VoiceBook, maker: Maker) -> None:
    """COM-81: previews."""
    assert await book.preview("elevenlabs:rachel") == b"mp3"
    for odd in ("elevenlabs:nobody", "house:mia", "espeak:en-us"):
        with pytest.raises(UnknownVoiceError):
            await book.preview(odd)
    maker.away = True
    with pytest.raises(VoicesAway):
        await book.preview("elevenlabs:rachel")


async def test_without_a_provider_the_offline_voices_may_be_chosen() -> None:
    """CMB-42: offline."""
    book = book_of(Settings())
    assert (await book.check("espeak:en-us+f3")).language == "en-us"
    assert await book.withdrawn(["espeak:en-us+f3", "elevenlabs:rachel"]) == {"elevenlabs:rachel"}
    with pytest.raises(UnknownVoiceError):
        await book.check("espeak:klingon")
    await book.close()


async def test_with_a_key_the_book_is_the_providers() -> None:
    book = book_of(load(environ={}, elevenlabs_api_key="key", elevenlabs_api_url="http://127.0.0.1:9"))
    with pytest.raises(UnknownVoiceError):
        await book.check("espeak:en-us")
    with pytest.raises(VoicesAway):
        await book.check("elevenlabs:rachel")
    await book.close()


def test_every_offline_voice_on_the_list_speaks() -> None:
    """CMB-42: the list that needs no engine does not promise what the engine has not."""
    engine = espeak()
    for card in espeak_voices():
        assert engine.speak("Hello.", Style(voice=card.id.partition(":")[2])).pcm, card.id
