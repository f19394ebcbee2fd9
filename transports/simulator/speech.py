"""Speaking and understanding in a process of their own, so that neither can delay a frame of audio.

Run as a program (`python -m transports.simulator.speech`) this module is that process: it reads requests from its
standard input, answers on its standard output and ends when the input does. `Speech` is the side that asks.
A request and an answer are each one line of JSON, followed by as many bytes as its `size` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from . import codec
from .voice import VoiceError, VoiceStyle

_ROOT = Path(__file__).parents[2]
_LONGEST_S = 30.0


class Speech:
    """Clips and understanding on demand. The process starts with the first request and is replaced if it dies."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._clips: dict[tuple[str, VoiceStyle, float | None], codec.Clip] = {}

    async def say(self, text: str, style: VoiceStyle, noise_dbfs: float | None = None) -> codec.Clip:
        """`text` spoken, with background noise under it if asked; made once, then kept.

        Raises:
            VoiceError: the voice does not exist, or the process failed twice.
        """
        key = (text, style, noise_dbfs)
        if key not in self._clips:
            request = {"do": "say", "text": text, "name": style.name, "rate": style.rate, "pitch": style.pitch}
            answer, data = await self._ask(request)
            if answer["error"]:
                raise VoiceError(answer["error"])
            pcm = codec.decode(data)
            if noise_dbfs is not None:
                pcm = codec.mix(pcm, codec.noise(1.0, noise_dbfs))
            self._clips[key] = codec.clip(text, pcm)
        return self._clips[key]

    async def understand(self, mulaw: bytes, expected: Sequence[str]) -> str:
        """Which of the expected phrases were said; empty if nothing was understood."""
        answer, _ = await self._ask({"do": "understand", "expected": list(expected)}, mulaw)
        return str(answer.get("text", ""))

    async def warm(self) -> None:
        """Load the recogniser now, so that the first bot utterance need not wait for it."""
        await self.understand(codec.SILENCE, ["yes"])

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # or its pipes outlive the event loop

    async def _ask(self, request: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        async with self._lock:
            for attempt in (1, 2):
                process = await self._running()
                try:
                    async with asyncio.timeout(_LONGEST_S):
                        return await _exchange(process, request, data)
                except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
                    await self.close()
                    if attempt == 2:
                        raise VoiceError("The speech process failed twice in a row.") from error
                except asyncio.CancelledError:
                    await self.close()  # an answer nobody reads would be taken for the next one
                    raise
        raise AssertionError

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "transports.simulator.speech",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the program, which then closes our pipe
                limit=1 << 20,
            )
        return self._process


async def _exchange(
    process: asyncio.subprocess.Process, request: dict[str, Any], data: bytes
) -> tuple[dict[str, Any], bytes]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(request | {"size": len(data)}).encode() + b"\n" + data)
    await process.stdin.drain()
    answer = json.loads(await process.stdout.readuntil())
    return answer, await process.stdout.readexactly(answer["size"])


def work(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Serve requests until they end."""
    from .hearing import Recogniser  # the recogniser and the voice load on first use only
    from .voice import Espeak

    recogniser: Recogniser | None = None
    espeak: Espeak | None = None
    for line in requests:
        request = json.loads(line)
        data = requests.read(request["size"])
        answer: dict[str, Any] = {"error": ""}
        out = b""
        try:
            if request["do"] == "say":
                espeak = espeak or Espeak()
                style = VoiceStyle(request["name"], request["rate"], request["pitch"])
                out = codec.encode(espeak.speak(request["text"], style))
            else:
                recogniser = recogniser or Recogniser()
                answer["text"] = recogniser.understand(data, request["expected"])
        except VoiceError as error:
            answer["error"] = str(error)
        answers.write(json.dumps(answer | {"size": len(out)}).encode() + b"\n" + out)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        work(sys.stdin.buffer, sys.stdout.buffer)
