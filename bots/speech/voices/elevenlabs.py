"""ElevenLabs: the voice of calls, streamed word by word.

This is Pipecat's service, with its own reconnecting switched off: at a lost connection it would report the words
still to come as spoken, and the voice chain knows better what to do. Lists, checks, previews and files are
`bots.elevenlabs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipecat.services.elevenlabs.tts import ElevenLabsTTSService

from infra.settings import Elevenlabs

RATE_HZ = 8000
_TUNING = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")


class ElevenlabsVoice(ElevenLabsTTSService):
    """ElevenLabs' multi-context socket as a Pipecat service, at 8 kHz.

    `table` is the persona's `[voice] elevenlabs`: `voice`, `model`, `stability`, `similarity_boost`, `style`,
    `use_speaker_boost`, `speed`.
    """

    def __init__(self, settings: Elevenlabs, table: Mapping[str, Any]) -> None:
        tuning = {name: table[name] for name in _TUNING if name in table}
        super().__init__(
            name="elevenlabs",
            api_key=settings.api_key.get_secret_value(),
            url=settings.url,
            sample_rate=RATE_HZ,
            reconnect_on_error=False,
            settings=ElevenLabsTTSService.Settings(
                model=str(table.get("model", settings.model)),
                voice=str(table.get("voice", settings.voice)),
                **tuning,
            ),
        )

    async def _connect(self) -> None:
        # Pipecat starts no second reader while it still holds the one that ended with the last connection.
        task: Any = self._receive_task
        if task is not None and task.done():
            self._receive_task = None
        await super()._connect()  # type: ignore[no-untyped-call]
