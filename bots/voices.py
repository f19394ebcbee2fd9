"""The voice book: which voices a persona may have, and whether one still exists.

A voice has one id everywhere, such as `elevenlabs:21m00Tcm4TlvDq8ikWAM`, `espeak:en-us+f3` or `house:mia`. The voices
of the house are those of the system's personas; they sound on every engine. The others are those of the engine that
speaks on this node's calls: the provider's list, or eSpeak NG's where there is no provider.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
import structlog

from bots.models.port import ModelError, Rejected
from bots.personas.persona import available, load
from infra.settings import Settings

FRESH_SECONDS = 300.0  # a list is asked for again after this long
AGAIN_SECONDS = 30.0  # and after a failure
LIST_SECONDS = 3.0  # a person is waiting
ID_CHARS = 80
_NAME = re.compile(r"[A-Za-z0-9+_-]{1,60}")
_ACCENTS = {
    "en-us": "American", "en": "British", "en-gb-scotland": "Scottish", "en-029": "Caribbean", "de": "German",
    "fr": "French", "es": "Spanish", "it": "Italian", "nl": "Dutch", "pt-br": "Brazilian", "tr": "Turkish",
    "ko": "Korean",
}  # fmt: skip
_VARIANTS = (
    {"": "plain"} | {f"+f{n}": f"female {n}" for n in range(1, 6)} | {f"+m{n}": f"male {n}" for n in range(1, 9)}
)
log = structlog.get_logger()


class VoiceCard(msgspec.Struct, frozen=True):
    """A voice one can choose. `preview_url` is a sample that the provider keeps, if it does."""

    id: str
    name: str
    category: str = ""
    language: str = ""
    preview_url: str = ""


class UnknownVoiceError(Exception):
    """There is no such voice for this server. Choose one of those that the list of voices shows."""


class VoicesAway(Exception):
    """The provider of voices does not answer, so a voice cannot be checked now. Try again in a minute."""


class Provider(Protocol):
    """Where voices come from: `bots.elevenlabs.Voices`, or a double of it."""

    async def available(self) -> tuple[VoiceCard, ...]: ...

    async def check(self, voice_id: str) -> VoiceCard: ...

    async def preview(self, voice_id: str) -> bytes: ...

    async def close(self) -> None: ...


def espeak_voices() -> tuple[VoiceCard, ...]:
    """The voices of the offline engine that may be chosen; this list needs no engine."""
    return tuple(
        VoiceCard(f"espeak:{accent}{variant}", f"{nation}, {kind}", "offline", accent)
        for accent, nation in _ACCENTS.items()
        for variant, kind in _VARIANTS.items()
    )


def house_voices() -> tuple[VoiceCard, ...]:
    """The voices of the system's personas."""
    personas = (load(name) for name in available())
    return tuple(
        VoiceCard(f"house:{persona.name}", f"{persona.title}'s voice", "house", persona.language)
        for persona in personas
        if persona.description
    )


def book_of(settings: Settings) -> VoiceBook:
    """The voice book of a node with these settings."""
    if settings.engines[1] != "elevenlabs":
        return VoiceBook()
    from bots.elevenlabs import Voices  # the SDK takes its time to load, and most nodes of a developer need it not

    return VoiceBook(Voices(settings.elevenlabs), "elevenlabs")


class VoiceBook:
    """Lists and checks voices.

    Args:
        provider: of voices; None where calls speak with eSpeak NG.
        prefix: what the ids of the provider's voices begin with.
        now: a clock in seconds.
    """

    def __init__(
        self, provider: Provider | None = None, prefix: str = "", now: Callable[[], float] = time.monotonic
    ) -> None:
        self._provider, self._prefix, self._now = provider, prefix, now
        self._house = house_voices()
        self._listed: tuple[VoiceCard, ...] | None = espeak_voices() if provider is None else None
        self._due = self._again = 0.0  # when the list is no longer fresh; before when nobody asks after a failure
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        """Give connections back."""
        if self._provider is not None:
            await self._provider.close()

    async def available(self) -> tuple[VoiceCard, ...]:
        """The voices one may choose, those of the house first.

        Raises:
            VoicesAway: the provider does not answer and never has.
        """
        await self._refresh()
        if self._listed is None:
            raise VoicesAway(VoicesAway.__doc__)
        return (*self._house, *self._listed)

    async def check(self, voice: str) -> VoiceCard:
        """The voice of this id; one that is not on the list is asked for.

        Raises:
            UnknownVoiceError: there is none.
            VoicesAway: only the provider knows, and it does not answer.
        """
        known = (*self._house, *(self._listed or ()))
        found = next((card for card in known if card.id == voice), None)
        if found is not None and (found in self._house or self._provider is None or self._now() < self._due):
            return found
        prefix, _, name = voice.partition(":")
        if self._provider is None or prefix != self._prefix or not _NAME.fullmatch(name):
            raise UnknownVoiceError(f"{UnknownVoiceError.__doc__} It has no voice {voice[:ID_CHARS]!r}.")
        try:
            async with asyncio.timeout(LIST_SECONDS):
                return self._ours(await self._provider.check(name))
        except (ModelError, TimeoutError) as error:
            if found is not None:  # it was there a while ago
                return found
            raise VoicesAway(VoicesAway.__doc__) from error

    async def withdrawn(self, voices: Iterable[str]) -> frozenset[str]:
        """Which of these voices can no longer be had.

        Raises:
            VoicesAway: the provider does not answer, so nobody knows.
        """
        await self._refresh()
        if self._listed is None or (self._provider is not None and self._now() >= self._due):
            raise VoicesAway(VoicesAway.__doc__)
        known = {card.id for card in (*self._house, *self._listed)}
        gone = []
        for voice in sorted({voice for voice in voices if voice} - known):
            try:
                await self.check(voice)  # the list shows the account's own voices; others may be had as well
            except UnknownVoiceError:
                gone.append(voice)
        return frozenset(gone)

    async def preview(self, voice: str) -> bytes:
        """A few seconds of a provider's voice, as MP3.

        Raises:
            UnknownVoiceError: there is none, or it speaks on this machine only.
            VoicesAway
        """
        prefix, _, name = voice.partition(":")
        if self._provider is None or prefix != self._prefix or not _NAME.fullmatch(name):
            raise UnknownVoiceError("There is no sample of this voice. Call one of its personas to hear it.")
        try:
            return await self._provider.preview(name)
        except Rejected as error:
            raise UnknownVoiceError(UnknownVoiceError.__doc__) from error
        except ModelError as error:
            raise VoicesAway(VoicesAway.__doc__) from error

    async def _refresh(self) -> None:
        """Have a fresh list, if it can be had; callers at once ask the provider once."""
        if self._provider is None or self._now() < max(self._due, self._again):
            return
        async with self._asking:
            if self._now() < max(self._due, self._again):
                return
            try:
                async with asyncio.timeout(LIST_SECONDS):
                    self._listed = tuple(self._ours(card) for card in await self._provider.available())
                self._due = self._now() + FRESH_SECONDS
            except (ModelError, TimeoutError) as error:
                self._again = self._now() + AGAIN_SECONDS
                log.warning("voices_not_listed", error=str(error))

    def _ours(self, card: VoiceCard) -> VoiceCard:
        return msgspec.structs.replace(card, id=f"{self._prefix}:{card.id}")
