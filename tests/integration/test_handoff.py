"""An accepted socket passes from one aiohttp server to another, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tests.doubles.raw_phone import PATIENCE_S, Phone, dial, frame, upgrade
from transports.handoff import (
    GRANT,
    HEAD_LIMIT,
    HandoffRefused,
    Intake,
    Offer,
    Refuse,
    hand_over,
)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Scene:
    """A gateway and a host, each with its own server; `admit` and `after` may be replaced."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "intake"
        self.timeout_s = PATIENCE_S
        self.admitted: list[bytes] = []
        self.abandoned: asyncio.Queue[bytes] = asyncio.Queue()
        self.refusals: list[HandoffRefused] = []
        self.admit: Callable[[bytes], Awaitable[None]] = self._note
        self.app = web.Application()
        self.app.router.add_get("/{tail:.*}", self._talk)
        self.intake: Intake | None = None
        self.left = asyncio.Event()
        self.port = 0
        self.phones: list[Phone] = []

    async def _note(self, grant: bytes) -> None:
        self.admitted.append(grant)

    async def open_host(self) -> None:
        self.intake = Intake(
            self.path, self.app, lambda grant: self.admit(grant), abandon=self.abandoned.put, shutdown_s=0.2
        )
        await self.intake.start()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/plain":
            return web.Response(text="plain")
        try:
            return await hand_over(request, self.path, request.path.encode(), timeout=self.timeout_s)
        except HandoffRefused as refusal:
            self.refusals.append(refusal)
            raise

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/declined":
            raise web.HTTPForbidden
        call = web.WebSocketResponse()
        await call.prepare(request)
        await call.send_str(f"{GRANT.get().decode()} {request.raw_path} {len(request.headers)}")
        async for message in call:
            await call.send_str(f"echo {message.data}")
        self.left.set()
        return call

    async def dial(self, *opening: bytes) -> Phone:
        phone = await dial(self.port, *opening)
        self.phones.append(phone)
        return phone


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Scene]:
    scene = Scene(folder)
    gateway = web.Application()
    gateway.router.add_get("/{tail:.*}", scene.serve)
    gateway.router.add_post("/{tail:.*}", scene.serve)
    runner = web.AppRunner(gateway, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scene.port = runner.addresses[0][1]
    await scene.open_host()
    yield scene
    for phone in scene.phones:
        await phone.hang_up()
    assert scene.intake is not None
    await scene.intake.close()
    await runner.cleanup()


def on_both_loops(play: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    """A test that plays the scene on asyncio and on uvloop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def test(tmp_path: Path, loop: str) -> None:
        async def run() -> None:
            async with staged(tmp_path) as scene:
                await play(scene)

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(run())

    test.__doc__ = play.__doc__
    return test


@on_both_loops
async def test_a_host_talks_on_the_socket_that_the_gateway_accepted(scene: Scene) -> None:
    phone = await scene.dial(upgrade("/media/ticket%20one?x=%2F"))
    head = await phone.head()
    assert head.startswith(b"HTTP/1.1 101")
    assert b"deflate" not in head
    assert await phone.text() == "/media/ticket one /media/ticket%20one?x=%2F 5"
    phone.say("hello")
    assert await phone.text() == "echo hello"
    assert scene.admitted == [b"/media/ticket one"]


@on_both_loops
async def test_bytes_sent_behind_the_head_come_first(scene: Scene) -> None:
    phone = await scene.dial(upgrade(), *(frame(f"early {n}") for n in range(50)))
    await phone.head()
    phone.say("late")
    await phone.text()
    said = [await phone.text() for _ in range(51)]
    assert said == [f"echo early {n}" for n in range(50)] + ["echo late"]


@on_both_loops
async def test_bytes_that_come_while_the_host_decides_are_kept(scene: Scene) -> None:
    asked, decided = asyncio.Event(), asyncio.Event()

    async def admit(_: bytes) -> None:
        asked.set()
        await decided.wait()

    scene.admit = admit
    phone = await scene.dial(upgrade(), frame("one"))
    await asked.wait()
    phone.say("two")
    await phone.writer.drain()
    decided.set()
    await phone.head()
    await phone.text()
    assert [await phone.text(), await phone.text()] == ["echo one", "echo two"]


@on_both_loops
async def test_many_early_bytes_are_passed_in_parts(scene: Scene) -> None:
    text = "x" * 60_000
    phone = await scene.dial(upgrade(), *(frame(text) for _ in range(6)))
    await phone.head()
    await phone.text()
    assert [await phone.text() for _ in range(6)] == [f"echo {text}"] * 6


@on_both_loops
async def test_a_head_that_comes_in_pieces_is_one_head(scene: Scene) -> None:
    phone = await scene.dial()
    for byte in upgrade("/slow"):
        phone.writer.write(bytes([byte]))
        await phone.writer.drain()
    assert (await phone.head()).startswith(b"HTTP/1.1 101")
    assert (await phone.text()).startswith("/slow")


@on_both_loops
async def test_an_upgrade_may_follow_other_requests_on_its_connection(scene: Scene) -> None:
    """Kept alive, and pipelined: the earlier answers leave before the socket does."""
    plain = b"GET /plain HTTP/1.1\r\nHost: phone\r\n\r\n"
    phone = await scene.dial(plain)
    assert (await phone.head()).startswith(b"HTTP/1.1 200")
    assert await phone.reader.readexactly(5) == b"plain"
    phone.writer.write(plain * 3 + upgrade("/last") + frame("hello"))
    for _ in range(3):
        assert (await phone.head()).startswith(b"HTTP/1.1 200")
        assert await phone.reader.readexactly(5) == b"plain"
    assert (await phone.head()).startswith(b"HTTP/1.1 101")
    assert (await phone.text()).startswith("/last")
    assert await phone.text() == "echo hello"


@on_both_loops
async def test_a_request_behind_an_upgrade_is_no_request(scene: Scene) -> None:
    """It belongs to the WebSocket, which it breaks; nobody answers it as HTTP."""
    phone = await scene.dial(upgrade(), b"GET /plain HTTP/1.1\r\nHost: phone\r\n\r\n")
    await phone.head()
    await phone.text()
    assert b"plain" not in await phone.end()


@on_both_loops
async def test_a_large_head_passes_whole_and_a_larger_one_is_refused(scene: Scene) -> None:
    fields = [f"X-Field-{n}: {'y' * 6000}" for n in range(10)]
    phone = await scene.dial(upgrade("/large", *fields))
    assert (await phone.head()).startswith(b"HTTP/1.1 101")
    assert await phone.text() == "/large /large 15"
    fields = [f"X-Field-{n}: {'y' * 7000}" for n in range(HEAD_LIMIT // 7000 + 1)]
    assert (await (await scene.dial(upgrade("/larger", *fields))).head()).startswith(b"HTTP/1.1 431")


@on_both_loops
async def test_what_is_no_upgrade_is_not_handed_over(scene: Scene) -> None:
    for opening in (
        b"GET /media HTTP/1.1\r\nHost: phone\r\n\r\n",
        upgrade("/media", "Content-Length: 3").replace(b"GET", b"POST") + b"abc",
    ):
        assert (await (await scene.dial(opening)).head()).startswith(b"HTTP/1.1 400")
    assert scene.admitted == []


@on_both_loops
async def test_a_host_may_decline_on_the_socket_it_took(scene: Scene) -> None:
    phone = await scene.dial(upgrade("/declined"))
    assert (await phone.head()).startswith(b"HTTP/1.1 403")


@on_both_loops
async def test_a_refusal_is_a_503_that_says_when_to_come_again(scene: Scene) -> None:
    async def admit(_: bytes) -> None:
        raise Refuse("All slots are taken.", 2.2)

    scene.admit = admit
    phone = await scene.dial(upgrade(), frame("early"))
    answer = await phone.end()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 3\r\n" in answer
    assert answer.endswith(b'"All slots are taken."}')
    assert answer.count(b"HTTP/1.1") == 1
    assert scene.refusals[0].why == "All slots are taken."


@on_both_loops
async def test_a_refused_socket_can_be_offered_to_another_host(scene: Scene) -> None:
    async def refuse_once(_: bytes) -> None:
        scene.admit = scene._note
        raise Refuse("Not here.")

    scene.admit = refuse_once
    once = scene.serve

    async def twice(request: web.Request) -> web.StreamResponse:
        with contextlib.suppress(HandoffRefused):
            return await once(request)
        return await once(request)

    scene.serve = twice  # type: ignore[method-assign]
    gateway = web.Application()
    gateway.router.add_get("/{tail:.*}", twice)
    runner = web.AppRunner(gateway, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scene.port = runner.addresses[0][1]
    phone = await scene.dial(upgrade("/again"), frame("early"))
    assert (await phone.head()).startswith(b"HTTP/1.1 101")
    assert (await phone.text()).startswith("/again")
    assert await phone.text() == "echo early"
    await phone.hang_up()
    await runner.cleanup()


@on_both_loops
async def test_a_broken_admission_is_a_refusal(scene: Scene) -> None:
    async def admit(_: bytes) -> None:
        raise KeyError("bug")

    scene.admit = admit
    assert (await (await scene.dial(upgrade())).end()).startswith(b"HTTP/1.1 503")


@on_both_loops
async def test_a_host_that_is_late_is_not_waited_for_and_never_speaks(scene: Scene) -> None:
    """The gateway answers for itself; the host is told to let go of what it claimed."""
    late = asyncio.Event()

    async def admit(_: bytes) -> None:
        await late.wait()

    scene.admit, scene.timeout_s = admit, 0.05
    phone = await scene.dial(upgrade("/late"))
    assert (await phone.end()).startswith(b"HTTP/1.1 503")
    late.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await scene.abandoned.get() == b"/late"


@on_both_loops
async def test_no_host_is_a_503(scene: Scene) -> None:
    assert scene.intake is not None
    await scene.intake.close()
    assert (await (await scene.dial(upgrade())).end()).startswith(b"HTTP/1.1 503")
    await scene.open_host()
    assert (await (await scene.dial(upgrade())).head()).startswith(b"HTTP/1.1 101")


@on_both_loops
async def test_a_peer_that_left_is_seen_by_the_host(scene: Scene) -> None:
    phone = await scene.dial(upgrade())
    await phone.head()
    await phone.text()
    await phone.hang_up()
    await asyncio.wait_for(scene.left.wait(), PATIENCE_S)


@on_both_loops
async def test_two_hundred_handovers_leave_no_descriptor(scene: Scene) -> None:
    async def one(number: int) -> None:
        phone = await scene.dial(upgrade(f"/{number}"), frame("early"))
        await phone.head()
        assert (await phone.text()).startswith(f"/{number} ")
        assert await phone.text() == "echo early"
        await phone.hang_up()
        scene.phones.remove(phone)

    await one(0)
    before = await settled()
    for number in range(1, 201):
        await one(number)
    assert await settled() <= before
    assert scene.admitted == [f"/{number}".encode() for number in range(201)]


def descriptors() -> list[int]:
    """The open descriptors of this process."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them is gone again
            os.fstat(int(entry.name))
            found.append(int(entry.name))
    return found


async def settled() -> int:
    """The number of open descriptors, once it no longer changes."""
    last, same = -1, 0
    gc.collect()
    async with asyncio.timeout(PATIENCE_S):
        while same < 20:
            await asyncio.sleep(0.005)
            now = len(descriptors())
            last, same = now, same + 1 if now == last else 0
    return last


@on_both_loops
async def test_refusals_and_timeouts_leave_no_descriptor(scene: Scene) -> None:
    async def admit(grant: bytes) -> None:
        if grant == b"/late":
            await asyncio.sleep(0.02)
        else:
            raise Refuse("No.")

    scene.admit, scene.timeout_s = admit, 0.01
    before = await settled()
    for path in ("/late", "/refused") * 10:
        phone = await scene.dial(upgrade(path))
        assert (await phone.end()).startswith(b"HTTP/1.1 503")
        await phone.hang_up()
        scene.phones.remove(phone)
    assert await settled() <= before


@on_both_loops
async def test_every_descriptor_closes_on_exec(scene: Scene) -> None:
    phone = await scene.dial(upgrade())
    await phone.head()
    await phone.text()
    opened = [n for n in descriptors() if is_ours(n)]
    assert len(opened) >= 4  # two listeners, the phone's end, the host's
    assert not any(os.get_inheritable(n) for n in opened)


def is_ours(descriptor: int) -> bool:
    """Whether it is a TCP or a packet socket; the test runner's own are neither."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return copy.family == socket.AF_INET or copy.type == socket.SOCK_SEQPACKET


@on_both_loops
async def test_what_is_no_offer_harms_nobody(scene: Scene) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for packet, descriptors in (
            (b"", []),
            (b"\xc1 nonsense", []),
            (b"\xc1 nonsense", [theirs.fileno()]),
            (msgspec.msgpack.encode(Offer(b"grant", 10)), []),
            (msgspec.msgpack.encode(Offer(b"grant", 10**9)), [theirs.fileno()]),
            (msgspec.msgpack.encode(Offer(b"grant", 10)), [theirs.fileno()]),
            (msgspec.msgpack.encode(Offer(b"grant", 10)), [theirs.fileno(), ours.fileno()]),
        ):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
                line.connect(str(scene.path))
                socket.send_fds(line, [packet], descriptors)
    phone = await scene.dial(upgrade("/after"))
    assert (await phone.head()).startswith(b"HTTP/1.1 101")
    assert scene.admitted == [b"/after"]


def test_aiohttp_still_has_what_the_handoff_leans_on() -> None:
    """Fails when another aiohttp is installed whose protocol keeps these bytes elsewhere."""
    slots = {name for base in RequestHandler.__mro__ for name in getattr(base, "__slots__", ())}
    assert {"_message_tail", "_upgraded", "_buffer_paused"} <= slots
    for name in ("force_close", "data_received", "connection_made"):
        assert callable(getattr(RequestHandler, name))
