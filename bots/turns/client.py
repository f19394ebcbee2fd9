"""A call host's line to the turn server: one connection for all its calls, which comes back by itself.

Nothing here raises towards a call. Without an answer in time `judge` says `None`, and the turn is decided
by silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec
import structlog

from bots.turns.messages import PCM_MAX, Answer, Ask, Forget, Request, packed, received

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0
UNSENT_MOST = 8 * PCM_MAX  # bytes unread by a server that has stopped; more would only be late

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The model's opinion of a pause. Times are the server's: waiting in its queue, and computing."""

    probability: float
    queued_ms: float
    service_ms: float

    @property
    def complete(self) -> bool:
        """Whether the caller has probably finished."""
        return self.probability > 0.5


@dataclass(frozen=True, slots=True)
class TurnClientStatus:
    """Where the line stands. `outcomes` counts answers by kind; `away` is no server, `late` no answer."""

    connected: bool
    connections: int
    pending: int
    outcomes: dict[str, int]


class TurnClient:
    """Asks the node's turn server. `start` it with the host, `close` it at the end; calls share it."""

    def __init__(self, socket: Path | str, patience_s: float = 0.7) -> None:
        self._socket = str(socket)
        self._patience_s = patience_s
        self._ids = count(1)
        self._pending: dict[int, asyncio.Future[Answer | None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._connections = 0
        self._outcomes: Counter[str] = Counter()
        self._answer = msgspec.msgpack.Decoder(Answer)

    async def start(self) -> None:
        """Begin connecting in the background; a server that is not there yet is no error."""
        self._task = asyncio.create_task(self._run(), name="turn-client")

    async def close(self) -> None:
        """Hang up. Questions still open are answered `None`."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def wait_connected(self) -> None:
        """Return once the server is reached."""
        await self._connected.wait()

    def status(self) -> TurnClientStatus:
        return TurnClientStatus(self._connected.is_set(), self._connections, len(self._pending), dict(self._outcomes))

    async def judge(self, call: str, pcm: bytes) -> Verdict | None:
        """Whether `call` has finished its turn, from 16-bit PCM at 8 kHz that ends with the pause.

        `None` when the server is away, busy or late. Cancelling withdraws the question.
        """
        ask = Ask(next(self._ids), call, pcm[-PCM_MAX:], self._patience_s * 1000)
        if not self._send(ask):
            self._outcomes["away"] += 1
            return None
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._pending[ask.id] = future
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await future
        except TimeoutError:
            self._outcomes["late"] += 1
            self._send(Forget(ask.id))
            return None
        except asyncio.CancelledError:
            self._outcomes["forgotten"] += 1
            self._send(Forget(ask.id))
            raise
        finally:
            self._pending.pop(ask.id, None)
        self._outcomes[answer.outcome if answer else "away"] += 1
        if answer is None or answer.outcome != "judged":
            return None
        return Verdict(answer.probability, answer.queued_ms, answer.service_ms)

    def _send(self, request: Request) -> bool:
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > UNSENT_MOST:
            return False
        writer.write(packed(request))
        return True

    async def _run(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._socket)
            except OSError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MOST_S)
                continue
            pause = RETRY_FIRST_S
            self._connections += 1
            self._connected.set()
            try:
                await self._read(reader)
            except (OSError, asyncio.IncompleteReadError, ValueError, msgspec.MsgspecError) as error:
                log.warning("turn_server_lost", error=str(error))
            finally:
                self._drop()
            await asyncio.sleep(RETRY_FIRST_S)  # a dying server still accepts for a moment

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            answer = self._answer.decode(await received(reader))
            future = self._pending.get(answer.id)
            if future is not None and not future.done():
                future.set_result(answer)

    def _drop(self) -> None:
        self._connected.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        for future in self._pending.values():
            if not future.done():
                future.set_result(None)
