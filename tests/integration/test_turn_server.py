"""The turn server as its clients see it: a real process with the real model, killed and stopped at will."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bots.turns.client import TurnClient
from bots.turns.messages import PCM_MAX, Answer, Ask, packed
from bots.turns.server import SmartTurn, TurnServer, main
from transports.simulator import codec
from transports.simulator.speech import Speech
from transports.simulator.voice import VoiceStyle

PROGRAM = """
import asyncio, sys
from bots.turns.server import main

class System:
    def report(self, source):
        pass

    def ready(self):
        pass

asyncio.run(main(System(), {"socket": sys.argv[1]}, {}))
"""
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(socket: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(socket), cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield server
    finally:
        if server.returncode is None:
            server.send_signal(signal.SIGCONT)
            server.kill()
        await server.wait()
        server._transport.close()  # type: ignore[attr-defined]  # or it outlives the event loop


@asynccontextmanager
async def client(socket: Path, patience_s: float = 5.0) -> AsyncIterator[TurnClient]:
    client = TurnClient(socket, patience_s)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def connected(client: TurnClient) -> None:
    async with asyncio.timeout(30):
        await client.wait_connected()


class Gate:
    """A judge that waits to be let go, in the server's thread."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self._may = threading.Semaphore(0)

    def __call__(self, pcm: bytes) -> float:
        self.begun.append(pcm)
        self._may.acquire(timeout=10)
        return 0.75

    def let(self, count: int) -> None:
        self._may.release(count)


@asynccontextmanager
async def served(gate: Gate, socket: Path, backlog: int = 32) -> AsyncIterator[TurnServer]:
    server = TurnServer(gate, backlog)
    task = asyncio.create_task(server.serve(socket))
    try:
        yield server
    finally:
        gate.let(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # a status is there to be polled
            await asyncio.sleep(0.002)


@pytest.fixture(scope="module")
def spoken() -> dict[str, bytes]:
    """A finished and an unfinished sentence, each followed by the 200 ms of silence that make a pause."""

    async def speak() -> dict[str, bytes]:
        speech = Speech()
        try:
            texts = {"whole": "My name is Anna Miller.", "part": "I would like to, um, to book the"}
            clips = {name: await speech.say(text, VoiceStyle()) for name, text in texts.items()}
        finally:
            await speech.close()
        pcm = {name: codec.trim(codec.decode(b"".join(clip.frames))) for name, clip in clips.items()}
        return {name: np.append(samples, np.zeros(1600, np.int16)).tobytes() for name, samples in pcm.items()}

    return asyncio.run(speak())


async def test_the_server_says_what_pipecats_own_analyser_says(tmp_path: Path, spoken: dict[str, bytes]) -> None:
    """COM-14: same model, same features, same verdict, out of process."""
    from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

    stock = LocalSmartTurnAnalyzerV3(sample_rate=8000)
    stock.set_sample_rate(8000)
    async with process(tmp_path / "turns"), client(tmp_path / "turns") as ours:
        await connected(ours)
        for pcm in spoken.values():
            verdict = await ours.judge("call_1", pcm)
            samples = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
            expected = stock._predict_endpoint(samples)
            assert verdict is not None
            assert verdict.probability == pytest.approx(expected["probability"], abs=1e-3)
            assert verdict.complete == bool(expected["prediction"])
            assert verdict.service_ms > 0
    await stock.cleanup()  # type: ignore[no-untyped-call]


async def test_a_killed_server_is_silence_to_its_client_until_it_is_back(
    tmp_path: Path, spoken: dict[str, bytes]
) -> None:
    socket = tmp_path / "turns"
    async with client(socket) as ours:
        assert await ours.judge("call_1", spoken["whole"]) is None
        async with process(socket) as server:
            await connected(ours)
            assert await ours.judge("call_1", spoken["whole"]) is not None
            os.kill(server.pid, signal.SIGSTOP)
            asking = asyncio.create_task(ours.judge("call_1", spoken["whole"]))
            await until(lambda: ours.status().pending == 1)
            os.kill(server.pid, signal.SIGKILL)
            assert await asking is None
            await until(lambda: not ours.status().connected)
            assert await ours.judge("call_1", spoken["whole"]) is None
        async with process(socket):
            await connected(ours)
            assert await ours.judge("call_1", spoken["whole"]) is not None
        assert ours.status().connections >= 2
        assert ours.status().outcomes == {"judged": 2, "away": 3}


async def test_a_stopped_server_is_late_and_the_question_is_withdrawn(tmp_path: Path) -> None:
    gate = Gate()
    async with served(gate, tmp_path / "turns") as server, client(tmp_path / "turns", 0.05) as ours:
        await connected(ours)
        first, second = await asyncio.gather(ours.judge("call_1", b"ab"), ours.judge("call_2", b"cd"))
        assert first is None
        assert second is None
        await until(lambda: server.status().waiting == 0)
        gate.let(1)
        await until(lambda: server.status().outcomes.get("judged") == 1)
        assert gate.begun == [b"ab"]
        assert ours.status().outcomes == {"late": 2}


async def test_a_newer_pause_of_a_call_takes_the_place_of_the_older(tmp_path: Path) -> None:
    gate = Gate()
    async with served(gate, tmp_path / "turns") as server, client(tmp_path / "turns") as ours:
        await connected(ours)
        running = asyncio.create_task(ours.judge("call_0", b"running"))
        await until(lambda: gate.begun)
        older = asyncio.create_task(ours.judge("call_1", b"older"))
        await until(lambda: server.status().waiting == 1)
        other = asyncio.create_task(ours.judge("call_2", b"other"))
        await until(lambda: server.status().waiting == 2)
        newer = asyncio.create_task(ours.judge("call_1", b"newer"))
        assert await older is None
        gate.let(3)
        assert all(await asyncio.gather(running, other, newer))
        assert gate.begun == [b"running", b"other", b"newer"]
        assert server.status().outcomes == {"superseded": 1, "judged": 3}


async def test_a_cancelled_question_is_never_computed(tmp_path: Path) -> None:
    gate = Gate()
    async with served(gate, tmp_path / "turns") as server, client(tmp_path / "turns") as ours:
        await connected(ours)
        running = asyncio.create_task(ours.judge("call_0", b"running"))
        await until(lambda: gate.begun)
        resumed = asyncio.create_task(ours.judge("call_1", b"resumed"))
        await until(lambda: server.status().waiting == 1)
        resumed.cancel()
        await until(lambda: server.status().waiting == 0)
        gate.let(1)
        assert await running is not None
        assert gate.begun == [b"running"]


async def test_a_full_server_says_so_at_once_and_shows_its_delay(tmp_path: Path) -> None:
    gate = Gate()
    async with served(gate, tmp_path / "turns", backlog=1) as server, client(tmp_path / "turns") as ours:
        await connected(ours)
        running = asyncio.create_task(ours.judge("call_0", b"running"))
        await until(lambda: gate.begun)
        waiting = asyncio.create_task(ours.judge("call_1", b"waiting"))
        await until(lambda: server.status().waiting == 1)
        assert await ours.judge("call_2", b"refused") is None
        assert ours.status().outcomes == {"busy": 1}
        assert server.status().delay_p95_ms > 0
        gate.let(2)
        assert all(await asyncio.gather(running, waiting))


async def test_garbage_costs_its_sender_the_connection_and_nobody_else_anything(tmp_path: Path) -> None:
    gate = Gate()
    gate.let(10)
    socket = tmp_path / "turns"
    async with served(gate, socket), client(socket) as ours:
        await connected(ours)
        for garbage in (b"\xff\xff\xff\xff", b"\0\0\0\3abc", packed(Answer(1, "busy"))):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(garbage)
            assert await reader.read() == b""
            writer.close()
        assert await ours.judge("call_1", b"ab") is not None


async def test_a_host_that_dies_takes_its_questions_along(tmp_path: Path) -> None:
    gate = Gate()
    socket = tmp_path / "turns"
    async with served(gate, socket) as server, client(socket) as ours:
        await connected(ours)
        _, writer = await asyncio.open_unix_connection(socket)
        writer.write(packed(Ask(1, "call_1", b"ab", 1000)) + packed(Ask(2, "call_2", b"cd", 1000)))
        await until(lambda: gate.begun and server.status().waiting == 1)
        writer.transport.abort()
        await until(lambda: server.status().waiting == 0 and server.status().connections == 1)
        gate.let(2)
        assert await ours.judge("call_3", b"ef") is not None


async def test_the_process_reports_its_delay_to_the_node(tmp_path: Path) -> None:
    """Admission refuses calls by it: the server starves before the processor looks full."""

    class System:
        def __init__(self) -> None:
            self.sources: list[Callable[[], dict[str, Any]]] = []
            self.is_ready = asyncio.Event()

        def report(self, source: Callable[[], dict[str, Any]]) -> None:
            self.sources.append(source)

        def ready(self) -> None:
            self.is_ready.set()

    system = System()
    running = asyncio.create_task(main(system, {"socket": str(tmp_path / "turns")}, {}))
    await system.is_ready.wait()
    (report,) = system.sources
    assert report() == {"turn_delay_p95_ms": 0.0, "turn_waiting": 0.0}
    async with client(tmp_path / "turns") as ours:
        await connected(ours)
        assert await ours.judge("call_1", bytes(16000)) is not None
    assert report()["turn_delay_p95_ms"] > 0.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("pcm", [b"", b"\1", bytes(2000), bytes(2 * PCM_MAX)])
def test_the_model_takes_audio_of_any_length(pcm: bytes) -> None:
    assert 0.0 <= SmartTurn()(pcm) <= 1.0
