"""The node's turn server: smart-turn, loaded once, so that its bursts never stop a media process.

One thread computes; the loop that reads questions stays free. Questions are answered in the order they
came, at most one a call: a newer pause takes the place of the older. What nobody waits for any more is
never computed, so that an overloaded server goes on giving answers that are still of use instead of ever
older ones.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import onnxruntime
import soxr  # type: ignore[import-untyped]
import structlog
from pipecat.audio.turn.smart_turn._whisper_features import compute_whisper_log_mel_features

from bots.turns.messages import LONGEST_S, Answer, Ask, Request, packed, received

BACKLOG = 32  # more would wait beyond any patience
DELAY_SPAN_S = 10.0
MODEL_HZ = 16000

log = structlog.get_logger()


class Process(Protocol):
    """What the server needs of its process's actor system."""

    def report(self, source: Callable[[], dict[str, Any]]) -> None:
        """Let the node see what `source` says, whenever it looks."""

    def ready(self) -> None:
        """Say that the server now answers."""


class SmartTurn:
    """smart-turn v3.2 with its feature extraction, as Pipecat bundles them. Blocks for 27 to 50 ms."""

    def __init__(self, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = files("pipecat.audio.turn.smart_turn.data") / "smart-turn-v3.2-cpu.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, pcm: bytes) -> float:
        """The probability that the turn is complete after `pcm`, 16-bit mono at 8 kHz, of which 8 s count."""
        samples = np.frombuffer(pcm, dtype=np.int16, count=len(pcm) // 2).astype(np.float32) / 32768
        audio = soxr.resample(samples, MODEL_HZ // 2, MODEL_HZ, quality="HQ")[-LONGEST_S * MODEL_HZ :]
        # The model always looks at eight seconds, its attention on the end: sending less saves nothing.
        audio = np.pad(audio, (LONGEST_S * MODEL_HZ - len(audio), 0))
        features = compute_whisper_log_mel_features(audio, do_normalize=True)
        return float(self._session.run(None, {"input_features": features[None]})[0][0].item())


@dataclass(slots=True)
class _Waiting:
    ask: Ask
    since: float
    writer: asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class TurnServerStatus:
    """What waits, what became of the questions, and their p95 delay over the last ten seconds."""

    waiting: int
    connections: int
    outcomes: dict[str, int]
    delay_p95_ms: float


class TurnServer:
    """Answers questions over any number of connections. `judge` runs in a thread of its own."""

    def __init__(
        self,
        judge: Callable[[bytes], float],
        backlog: int = BACKLOG,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._backlog = backlog
        self._clock = clock
        self._waiting: dict[tuple[int, str], _Waiting] = {}  # in order of arrival
        self._arrived = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()
        self._outcomes: Counter[str] = Counter()
        self._delays: deque[tuple[float, float]] = deque()
        self._computing_since: float | None = None
        self._request = msgspec.msgpack.Decoder(Request)

    def status(self) -> TurnServerStatus:
        """A snapshot. A question still waiting counts with its age, so that a stuck server shows at once."""
        now = self._clock()
        while self._delays and now - self._delays[0][0] > DELAY_SPAN_S:
            self._delays.popleft()
        delays = [delay for _, delay in self._delays]
        delays += [now - waiting.since for waiting in self._waiting.values()]
        if self._computing_since is not None:
            delays.append(now - self._computing_since)
        p95 = float(np.percentile(delays, 95)) * 1000 if delays else 0.0
        return TurnServerStatus(len(self._waiting), len(self._connections), dict(self._outcomes), p95)

    def report(self) -> dict[str, float]:
        """The figures that admission watches."""
        status = self.status()
        return {"turn_delay_p95_ms": status.delay_p95_ms, "turn_waiting": float(status.waiting)}

    async def serve(self, socket: Path | str, ready: Callable[[], None] = lambda: None) -> None:
        """Serve at `socket`, replacing whatever lies there, until cancelled; call `ready` once it listens."""
        path = Path(socket)
        path.unlink(missing_ok=True)
        with ThreadPoolExecutor(1, "smart-turn") as pool:
            server = await asyncio.start_unix_server(self._connected, path)
            path.chmod(0o600)
            ready()
            try:
                await self._compute(pool)
            finally:
                server.close()
                for writer in self._connections:
                    writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                self._take(self._request.decode(await received(reader)), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the host ended
        except (ValueError, msgspec.MsgspecError) as error:
            log.warning("turn_client_malformed", error=str(error))
        finally:
            self._connections.discard(writer)
            for key in [key for key in self._waiting if key[0] == id(writer)]:
                del self._waiting[key]
            writer.transport.abort()

    def _take(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if not isinstance(request, Ask):
            for key, waiting in self._waiting.items():
                if key[0] == id(writer) and waiting.ask.id == request.id:
                    del self._waiting[key]
                    self._outcomes["forgotten"] += 1
                    break
            return
        now = self._clock()
        key = (id(writer), request.call)
        older = self._waiting.pop(key, None)
        if older is not None:
            self._reply(older, "superseded")
        asked = _Waiting(request, now, writer)
        if len(self._waiting) >= self._backlog:
            self._reply(asked, "busy")
            return
        self._waiting[key] = asked
        self._arrived.set()

    async def _compute(self, pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            waiting = self._waiting.pop(next(iter(self._waiting)))
            begun = self._clock()
            queued_ms = (begun - waiting.since) * 1000
            if queued_ms > waiting.ask.patience_ms:
                self._reply(waiting, "late", queued_ms=queued_ms)
                continue
            self._computing_since = waiting.since
            probability = await loop.run_in_executor(pool, self._judge, waiting.ask.pcm)
            self._computing_since = None
            service_ms = (self._clock() - begun) * 1000
            self._reply(waiting, "judged", probability=probability, queued_ms=queued_ms, service_ms=service_ms)

    def _reply(
        self, waiting: _Waiting, outcome: Literal["judged", "busy", "superseded", "late"], **figures: float
    ) -> None:
        now = self._clock()
        if outcome in {"judged", "late"}:
            self._delays.append((now, now - waiting.since))
        self._outcomes[outcome] += 1
        if not waiting.writer.is_closing():
            waiting.writer.write(packed(Answer(waiting.ask.id, outcome, **figures)))


async def main(system: Process, args: Mapping[str, Any], fds: Mapping[str, int]) -> None:
    """Run as a process of the node until cancelled.

    `args`: `socket` (path), and if wished `threads` (1), `niceness` (0; added to the process's) and
    `backlog`. The socket appears once the model is loaded and warm.
    """
    if niceness := int(args.get("niceness", 0)):
        os.nice(niceness)
    model = await asyncio.to_thread(SmartTurn, int(args.get("threads", 1)))
    await asyncio.to_thread(model, bytes(MODEL_HZ))
    server = TurnServer(model, int(args.get("backlog", BACKLOG)))
    system.report(server.report)
    await server.serve(args["socket"], system.ready)
