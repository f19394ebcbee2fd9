"""Limits, callbacks and faults of the simulated network, and its command line."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from transports.simulator import codec, network, parrot, persona, webhooks
from transports.simulator.calls import Call, Detection, Instructions
from transports.simulator.faults import parse
from transports.simulator.parrot import Parrot

NUMBER, CALLER = "+15550100000", "+15550199000"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def bot() -> AsyncIterator[Parrot]:
    async with parrot.serving() as served:
        yield served


@pytest.fixture
async def net(bot: Parrot) -> AsyncIterator[network.Network]:
    async with network.serving(network.Config(voice_url=bot.url + "/voice", answerer="silent")) as served:
        yield served


async def ended(call: Call) -> dict[str, Any]:
    assert call.task
    async with asyncio.timeout(20):
        await call.task
    return call.record()


def quiet(seconds: float = 0.6) -> persona.Persona:
    return persona.parse({"steps": [{"pause": seconds * 1000}, {"hang_up": True}]})


async def test_a_call_ends_at_its_time_limit(net: network.Network, bot: Parrot) -> None:
    record = await ended(net.create(NUMBER, CALLER, Instructions(bot.url + "/voice", limit_s=0.5)))
    assert (record["status"], record["duration_s"]) == ("completed", 1)


async def test_a_machine_that_is_waited_for_is_named_in_the_voice_webhook(net: network.Network, bot: Parrot) -> None:
    bot.manners.voice = "<Response><Hangup/></Response>"
    net.numbers[NUMBER] = "voicemail"
    await ended(net.create(NUMBER, CALLER, Instructions(bot.url + "/voice"), Detection("Enable")))
    assert bot.requests[0].params["AnsweredBy"] == "machine_start"


async def test_a_stream_tells_its_beginning_end_and_failure(net: network.Network, bot: Parrot) -> None:
    for url in ("/media", "/gone"):
        bot.manners.voice = (
            f'<Response><Connect><Stream name="s1" url="{url}" statusCallback="/stream"/></Connect></Response>'
        )
        await ended(net.dial(NUMBER, CALLER, quiet()))
    events = [request.params for request in bot.requests if request.path == "/stream"]
    assert sorted(each["StreamEvent"] for each in events) == ["stream-error", "stream-started", "stream-stopped"]
    assert {each["StreamName"] for each in events} == {"s1"}


async def test_a_server_that_is_slow_to_answer_is_given_up(
    net: network.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 0.2)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        record = await ended(net.dial(NUMBER, CALLER, quiet(), f"http://127.0.0.1:{port}/voice"))
    assert (record["status"], record["error"]["code"]) == ("failed", 11205)


async def test_jitter_delays_frames_and_loses_none(net: network.Network, bot: Parrot) -> None:
    frames: list[dict[str, Any]] = []
    bot.on_media = frames.append
    net.inflict(parse({"kind": "stream_jitter", "ms": 200}))
    await ended(net.dial(NUMBER, CALLER, quiet(1.2)))
    assert [int(frame["media"]["chunk"]) for frame in frames] == list(range(1, len(frames) + 1))
    assert len(frames) > 40


async def test_an_oversized_message_is_sent_when_told(net: network.Network, bot: Parrot) -> None:
    net.inflict(parse({"kind": "stream_oversized", "ms": 100, "size": 5 << 20, "times": 1}))
    record = await ended(net.dial(NUMBER, CALLER, quiet(1.0)))
    assert record["drops"][0]["end"] == "close", "aiohttp answers what is too large with a close frame"


async def test_noise_lies_under_every_frame(net: network.Network, bot: Parrot) -> None:
    frames: list[bytes] = []
    bot.on_media = lambda message: frames.append(base64.b64decode(message["media"]["payload"]))
    caller = persona.parse(
        {
            "manner": {"noise_dbfs": -30.0},
            "steps": [{"pause": 300}, {"noise": False}, {"pause": 300}, {"hang_up": True}],
        }
    )
    await ended(net.dial(NUMBER, CALLER, caller))
    assert codec.loudness(frames[0]) > 300
    assert codec.loudness(frames[-1]) == 0


async def test_a_message_that_is_none_of_media_streams_is_noted(net: network.Network, bot: Parrot) -> None:
    call = net.dial(NUMBER, CALLER, quiet(1.0))
    async with asyncio.timeout(10):
        while not bot.messages:  # noqa: ASYNC110  # a state of the bot
            await asyncio.sleep(0.02)
    for text in ("no json", '{"event": "dance"}', '{"event": "media", "media": {"payload": "%"}}', "[]"):
        await bot.sockets[0].send_str(text)
    assert len((await ended(call))["protocol_errors"]) == 4


async def simulate(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "transports.simulator", *arguments, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )


async def test_the_command_calls_a_bot_and_writes_what_it_saw(bot: Parrot, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    arguments = ["--calls", "2", "--persona", "silent", "--webhook", bot.url + "/voice", "--duration", "2"]
    process = await simulate(*arguments, "--json", str(file))
    _, shown = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, shown
    outcome = json.loads(file.read_text())
    assert outcome["together"]["statuses"] == {"completed": 2}
    assert len(outcome["calls"]) == 2
    assert b"2 live" in shown


async def test_the_command_tells_a_bot_that_fails(bot: Parrot) -> None:
    bot.manners.voice = "nonsense"
    process = await simulate("--calls", "1", "--persona", "silent", "--webhook", bot.url + "/voice", "--duration", "2")
    _, shown = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"failed" in shown


@pytest.mark.parametrize(("name", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
async def test_nothing_of_the_command_outlives_it(name: signal.Signals, code: int) -> None:
    """Not even the speech process, however the command ends."""
    process = await simulate("--calls", "1", "--parrot", "--duration", "60")
    assert process.stderr
    async with asyncio.timeout(30):
        await process.stderr.readline()
        children: list[psutil.Process] = []
        while not children:
            children = psutil.Process(process.pid).children()
            await asyncio.sleep(0.05)
        os.kill(process.pid, name)
        await process.communicate()
    assert process.returncode == code
    gone, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert gone
    assert not alive
