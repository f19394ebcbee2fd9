"""`bench actors`: what an actor costs, in one process and in forked ones, beside the bare thing each is built on.

The bare thing is, in one process, an asyncio queue with a future for the answer; between processes, one request and
its answer in msgpack over a socketpair, asyncio on both sides. Asks and bare round trips alternate in the same
run, so that whatever else the machine does meets both. The bar is measured as everywhere in these benchmarks, with the
server on one core; beside it stands the same with every core, where the kernel keeps the bare pair on one and may not
keep ours there.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import psutil

from actors.runtime import Actor, ActorError, ActorSpec, Message, ProcessSpec, Supervision, System
from actors.runtime.forked import ForkedPlacement
from tests.bench.figures import Bar, Spread, percentile, percentiles
from tests.bench.harness import SERVER_CORE, BenchError, say

WARM_UP = 300
IN_FLIGHT = 64
HEAD = struct.Struct("<I")


class Say(Message, tag="bench.say"):
    """A question about as large as those of a call."""

    number: int
    text: str


class Said(Message, tag="bench.said"):
    """Its answer."""

    number: int


class Echo(Actor):
    """Answers every question."""

    async def receive(self, message: Message) -> Message | None:
        return Said(message.number) if isinstance(message, Say) else None


TEXT = "call/0198c0de-7d1f-7aaa-bbbb-0123456789ab"


async def host(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """The entry of the forked process: one `Echo`."""
    await system.spawn(ActorSpec(Echo, name=f"{args['name']}/echo"))
    system.ready()
    await asyncio.Event().wait()


async def bare(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """The entry of the bare process: answers over the socket that it was given."""
    given = socket.socket(fileno=os.dup(fds["bare"]))
    given.setblocking(False)
    _, answerer = await asyncio.get_running_loop().create_unix_connection(_Answerer, sock=given)
    system.ready()
    await answerer.gone.wait()


class _Framed(asyncio.Protocol):
    """Length-prefixed packets over a stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= HEAD.size:
            (size,) = HEAD.unpack_from(data, at)
            if len(data) - at - HEAD.size < size:
                break
            self.packet(data[at + HEAD.size : at + HEAD.size + size])
            at += HEAD.size + size
        self._rest = data[at:]

    def send(self, packet: bytes) -> None:
        assert self._transport
        self._transport.write(HEAD.pack(len(packet)) + packet)

    def packet(self, packet: bytes) -> None:
        raise NotImplementedError


class _Answerer(_Framed):
    def packet(self, packet: bytes) -> None:
        self.send(msgspec.msgpack.encode(Said(msgspec.msgpack.decode(packet, type=Say).number)))


class _Asker(_Framed):
    def __init__(self) -> None:
        super().__init__()
        self._waiting: asyncio.Future[Said] | None = None

    async def ask(self, message: Say) -> Said:
        """One round trip."""
        self._waiting = asyncio.get_running_loop().create_future()
        self.send(msgspec.msgpack.encode(message))
        return await self._waiting

    def packet(self, packet: bytes) -> None:
        assert self._waiting
        self._waiting.set_result(msgspec.msgpack.decode(packet, type=Said))


Ask = Callable[[int], Awaitable[object]]


async def run_actors(asks: int, runs: int) -> tuple[dict[str, Any], list[Bar]]:
    """Run the benchmark; its report and its bar."""
    told: dict[str, Any] = {}
    ratios: list[float] = []
    every = os.sched_getaffinity(0)
    for name, measure, cores in (
        ("in_process", _in_process, SERVER_CORE),
        ("forked", _forked, SERVER_CORE),
        ("forked_on_every_core", _forked, every),
    ):
        os.sched_setaffinity(0, cores)
        found = [await measure(asks) for _ in range(runs)]
        ratio = Spread(tuple(run["ask_us"]["p50"] / run["bare_us"]["p50"] for run in found))
        told[name] = {"ask_overhead": ratio.told(), "runs": found}
        if cores is SERVER_CORE:
            ratios.append(ratio.median)
        last = found[-1]
        say(
            f"{name}: ask p50 {last['ask_us']['p50']:.1f} us, p99 {last['ask_us']['p99']:.1f}; bare p50"
            f" {last['bare_us']['p50']:.1f} us, p99 {last['bare_us']['p99']:.1f}; {ratio} times bare;"
            f" {last['asks_per_s']:,.0f} asks/s; spawn p50 {last['spawn_us']['p50']:,.0f} us;"
            f" death noticed after p50 {last['death_us']['p50']:,.0f} us,"
            f" in service again after p50 {last['service_us']['p50']:,.0f} us"
        )
    return told, bars(max(ratios))


def bars(ratio: float | None = None) -> list[Bar]:
    """The bar; absent without a figure."""
    return [Bar("ask_overhead", ratio, 3.0, "at most", " times bare")]


async def _in_process(asks: int) -> dict[str, Any]:
    # Crashes are what is measured here: the usual limit on restarts would end it.
    async with System("bench", supervision=Supervision(intensity=1000)) as system:
        ref = await system.spawn(ActorSpec(Echo, name="echo"))
        queue: asyncio.Queue[tuple[Say, asyncio.Future[Said]]] = asyncio.Queue()

        async def serve() -> None:
            while True:
                message, answer = await queue.get()
                answer.set_result(Said(message.number))

        async def bare_ask(number: int) -> object:
            answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
            queue.put_nowait((Say(number, TEXT), answer))
            return await answer

        serving = asyncio.create_task(serve())
        figures = await _asks(lambda number: ref.ask(Say(number, TEXT), timeout=5.0), bare_ask, asks)
        serving.cancel()
        figures["spawn_us"] = percentiles([await _spawn_local(system, n) for n in range(max(50, asks // 20))])
        deaths = [await _death_local(system, n) for n in range(30)]
        figures["death_us"] = percentiles([noticed for noticed, _ in deaths])
        figures["service_us"] = percentiles([again for _, again in deaths])
    return figures


class Fragile(Echo):
    """Crashes on demand; its supervisor brings it back."""

    async def receive(self, message: Message) -> Message | None:
        if isinstance(message, Say) and message.number < 0:
            raise ValueError("the benchmark asked for it")
        return await super().receive(message)


async def _spawn_local(system: System, number: int) -> float:
    began = time.perf_counter()
    await system.spawn(ActorSpec(Echo, name=f"spawned-{number}"))
    took = (time.perf_counter() - began) * 1e6
    await system.stop_actor(f"spawned-{number}")
    return took


async def _death_local(system: System, number: int) -> tuple[float, float]:
    """Crash an actor: until a watcher knows, and until its successor answers."""
    name = f"fragile-{number}"
    ref = await system.spawn(ActorSpec(Fragile, name=name, restart="permanent"))
    down = asyncio.create_task(system.wait_down(name))
    await asyncio.sleep(0)
    began = time.perf_counter()
    await ref.tell(Say(-1, TEXT))
    await down
    noticed = (time.perf_counter() - began) * 1e6
    await _answers(lambda: ref.ask(Say(1, TEXT), timeout=1.0))
    again = (time.perf_counter() - began) * 1e6
    await system.stop_actor(name)
    return noticed, again


async def _forked(asks: int) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    async with System("bench") as system:
        placement = ForkedPlacement(system, preload=("tests.bench.actors",))
        await placement.open()
        try:
            await placement.start(
                ProcessSpec("bare", "tests.bench.actors:bare", {}, {"bare": theirs.fileno()}, ready=True)
            )
            await placement.start(_host("host"))
            _, asker = await asyncio.get_running_loop().create_unix_connection(_Asker, sock=ours)
            ref = system.ref("host/echo")
            figures = await _asks(
                lambda number: ref.ask(Say(number, TEXT), timeout=5.0),
                lambda number: asker.ask(Say(number, TEXT)),
                asks,
            )
            times = [await _spawn_forked(placement, system, n) for n in range(12)]
            figures["spawn_us"] = percentiles([spawn for spawn, _, _ in times])
            figures["death_us"] = percentiles([noticed for _, noticed, _ in times])
            figures["service_us"] = percentiles([again for _, _, again in times])
        finally:
            await placement.close()
            ours.close()
            theirs.close()
    return figures


def _host(name: str) -> ProcessSpec:
    return ProcessSpec(name, "tests.bench.actors:host", {"name": name}, ready=True)


async def _spawn_forked(placement: ForkedPlacement, system: System, number: int) -> tuple[float, float, float]:
    """Start a process, kill it, and wait for its successor: start, notice of death, service again, in us."""
    name = f"killed-{number}"
    began = time.perf_counter()
    await placement.start(_host(name))
    started = (time.perf_counter() - began) * 1e6
    pid = next(status.pid for status in placement.status() if status.name == name)
    down = asyncio.create_task(system.wait_down(f"{name}/echo"))
    await asyncio.sleep(0.01)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    await down
    noticed = (time.perf_counter() - began) * 1e6
    await _answers(lambda: system.ref(f"{name}/echo").ask(Say(1, TEXT), timeout=1.0))
    again = (time.perf_counter() - began) * 1e6
    await placement.stop(name)
    return started, noticed, again


async def _answers(ask: Callable[[], Awaitable[object]]) -> None:
    deadline = time.perf_counter() + 10.0
    while time.perf_counter() < deadline:
        try:
            await ask()
        except ActorError:
            await asyncio.sleep(0.0005)
            continue
        return
    raise BenchError("An actor did not come back into service.")


async def _asks(ask: Ask, bare_ask: Ask, asks: int) -> dict[str, Any]:
    """Time asks and bare round trips in turns of a hundred, then asks with many in flight."""
    gc.collect()
    for number in range(WARM_UP):
        await ask(number)
        await bare_ask(number)
    asked: list[float] = []
    plain: list[float] = []
    for _ in range(max(1, asks // 100)):
        for samples, one in ((asked, ask), (plain, bare_ask)):
            for number in range(100):
                began = time.perf_counter()
                await one(number)
                samples.append((time.perf_counter() - began) * 1e6)
    cpu = psutil.Process().cpu_times()
    began = time.perf_counter()

    async def client(count: int) -> None:
        for number in range(count):
            await ask(number)

    await asyncio.gather(*(client(asks // IN_FLIGHT) for _ in range(IN_FLIGHT)))
    spent = time.perf_counter() - began
    after = psutil.Process().cpu_times()
    done = asks // IN_FLIGHT * IN_FLIGHT
    return {
        "ask_us": percentiles(asked),
        "bare_us": percentiles(plain),
        "ask_p50_over_bare": percentile(asked, 0.5) / percentile(plain, 0.5),
        "asks_per_s": done / spent,
        "cpu_us_per_ask_here": (after.user + after.system - cpu.user - cpu.system) / done * 1e6,
    }
