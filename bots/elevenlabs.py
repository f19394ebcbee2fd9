"""ElevenLabs beside calls, through its SDK: lists and checks voices, plays previews, makes files.

The gateway uses this to check what people choose, so it loads no pipeline; the voice of calls is
`bots.speech.voices.elevenlabs`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import httpx
from elevenlabs.client import AsyncElevenLabs
from elevenlabs.core import ApiError, RequestOptions

from bots.models.port import ModelError, Rejected, fault
from bots.voices import UnknownVoiceError, VoiceCard
from infra.settings import Elevenlabs

NAME = "ElevenLabs"
TIMEOUT_S = 15.0
PREVIEW = "Hello, it is good to hear from you. How are you today?"
_NOT_FOUND = (400, 404)
T = TypeVar("T")


class Voices:
    """Lists and checks voices, plays previews, makes files. One per process; `close` it.

    Every method raises a `ModelError` (denied, rate limited, unreachable, timed out) if the provider fails.
    `characters` is what was synthesised so far, as the provider bills it.
    """

    def __init__(self, settings: Elevenlabs, timeout_s: float = TIMEOUT_S) -> None:
        self._model = settings.model
        self._http = httpx.AsyncClient(timeout=timeout_s, follow_redirects=True)
        self._client = AsyncElevenLabs(
            base_url=settings.api_url,
            api_key=settings.api_key.get_secret_value(),
            timeout=timeout_s,
            httpx_client=self._http,
        )
        self._options = RequestOptions(max_retries=0)  # the caller decides; a quota error goes to the next provider
        self.characters = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def available(self) -> tuple[VoiceCard, ...]:
        """The account's voices."""
        cards: list[VoiceCard] = []
        token: str | None = None
        while True:
            search = partial(
                self._client.voices.search,
                page_size=100,
                next_page_token=token,
                request_options=self._options,
            )
            page = await self._ask(search)
            cards.extend(_card(voice) for voice in page.voices)
            token = page.next_page_token
            if not page.has_more or not token:
                return tuple(cards)

    async def check(self, voice_id: str) -> VoiceCard:
        """The voice, if the account may use it.

        Raises:
            UnknownVoiceError: it may not, or there is none.
        """
        try:
            return _card(await self._ask(lambda: self._client.voices.get(voice_id, request_options=self._options)))
        except Rejected as error:
            raise UnknownVoiceError(f"{UnknownVoiceError.__doc__} It has no voice {voice_id!r}.") from error

    async def preview(self, voice_id: str, text: str = PREVIEW) -> bytes:
        """A few seconds of the voice, as MP3."""
        return await self.synthesise(text, voice_id)

    async def synthesise(self, text: str, voice_id: str, output: str = "mp3_44100_128") -> bytes:
        """`text` as a file; `output` is one of the provider's formats, such as `pcm_8000`."""

        async def convert() -> bytes:
            stream = self._client.text_to_speech.convert(
                voice_id,
                text=text,
                model_id=self._model,
                output_format=output,
                request_options=self._options,
            )
            return b"".join([piece async for piece in stream])

        sound = await self._ask(convert)
        self.characters += len(text)
        return sound

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        try:
            return await request()
        except ApiError as error:
            raise _failure(error) from error
        except httpx.TimeoutException as error:
            raise fault(NAME, "no answer in time", late=True) from error
        except httpx.HTTPError as error:
            raise fault(NAME, repr(error)) from error


def _failure(error: ApiError) -> ModelError:
    said = f"status {error.status_code}: {error.body}"
    if error.status_code in _NOT_FOUND and "quota" not in said:
        return Rejected(said, provider=NAME)
    return fault(NAME, said)


def _card(voice: Any) -> VoiceCard:
    labels = voice.labels or {}
    return VoiceCard(
        id=voice.voice_id,
        name=voice.name or voice.voice_id,
        category=str(voice.category or ""),
        language=str(labels.get("language", "")),
        preview_url=voice.preview_url or "",
    )
