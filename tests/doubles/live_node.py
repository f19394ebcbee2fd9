"""A whole node and a phone network, each a process of its own, as an operator and a carrier see them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.1
NUMBER = "+15550100000"
T = TypeVar("T")


async def wait_for(look: Callable[[], Awaitable[T | None]], seconds: float = WAIT_SECONDS) -> T:
    """What `look` finds, as soon as it finds something that is true."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if found := await look():
                    return found
            await asyncio.sleep(LOOK_SECONDS)


class Program:
    """A program whose output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self._grown = asyncio.Condition()
        self._reading = [asyncio.create_task(self._read(s)) for s in (process.stdout, process.stderr) if s]

    async def wait_said(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until the program has written something that matches; its whole output is in the failure."""
        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(
                    lambda: re.search(pattern, self.output) or self.process.returncode is not None
                )
        except TimeoutError:
            raise AssertionError(f"{pattern!r} was not said within {seconds} s:\n{self.output}") from None
        found = re.search(pattern, self.output)
        assert found, f"the program ended ({self.process.returncode}):\n{self.output}"
        return found

    async def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Send a signal and wait for the end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            code = await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"the program did not end within {seconds} s:\n{self.output}") from None
        finally:
            await asyncio.gather(*self._reading)
        return code

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            async with self._grown:
                self.output += data.decode("utf-8", "replace")
                self._grown.notify_all()
        async with self._grown:
            self._grown.notify_all()


async def program(*words: str, env: Mapping[str, str] | None = None) -> Program:
    """Start `python WORDS` in the root of the checkout."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("NODE_", "CALLS_", "TWILIO_"))}
    return Program(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            cwd=ROOT,
            env=environ | dict(env or {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )


class LiveNode:
    """One node that runs, and the network it has its calls from."""

    def __init__(self, node: Program, network: Program, urls: tuple[str, str], env: Mapping[str, str]) -> None:
        self.node, self.network, self.env = node, network, dict(env)
        self.url, self.network_url = urls
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request to the node's API: status and document."""
        async with self.session.request(method, self.url + path, json=body) as answer:
            data = await answer.read()
            return answer.status, json.loads(data) if data else None

    async def tell_network(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the network's control API."""
        async with self.session.request(method, f"{self.network_url}/simulator{path}", json=body) as answer:
            return await answer.json(content_type=None)

    async def dial(self, persona: str, to: str = NUMBER) -> str:
        """A simulated caller dials the node; returns the carrier's id."""
        body = {"to": to, "persona": persona, "voice_url": f"{self.url}/twilio/voice"}
        return str((await self.tell_network("POST", "/dial", body))["sid"])

    async def by_sid(self, sid: str) -> str:
        """Our id of the call that the carrier knows by `sid`."""

        async def look() -> str | None:
            _, told = await self.ask("GET", "/v1/operator/calls")
            return next((str(call["id"]) for call in told["calls"] if call["carrier_sid"] == sid), None)

        return await wait_for(look)

    async def read(self, call_id: str) -> dict[str, Any]:
        """The call with its turns and events."""
        status, told = await self.ask("GET", f"/v1/operator/calls/{call_id}")
        assert status == 200, told
        return dict(told)

    async def wait_call(
        self, call_id: str, true: Callable[[dict[str, Any]], Any], seconds: float = WAIT_SECONDS
    ) -> dict[str, Any]:
        """The call as soon as `true` holds for it; what it was like instead is in the failure."""
        last: dict[str, Any] = {}

        async def look() -> dict[str, Any] | None:
            nonlocal last
            status, told = await self.ask("GET", f"/v1/operator/calls/{call_id}")
            if status != 200:
                return None
            last = told
            return last if true(last) else None

        try:
            return await wait_for(look, seconds)
        except TimeoutError:
            raise AssertionError(
                f"not so within {seconds} s: {json.dumps(last, indent=1)}\n{self.node.output}"
            ) from None

    async def wait_over(self, call_id: str, seconds: float = 120.0) -> dict[str, Any]:
        """The call once it is over."""
        return await self.wait_call(call_id, lambda told: told["call"]["ended_at"], seconds)

    async def network_call(self, sid: str) -> dict[str, Any]:
        """What the network says of a call."""
        return dict(await self.tell_network("GET", f"/calls/{sid}"))

    async def wait_finished(self, sid: str) -> dict[str, Any]:
        """What the network says of a call once its last webhook is sent."""

        async def look() -> dict[str, Any] | None:
            told = await self.network_call(sid)
            return told if told["finished"] else None

        return await wait_for(look)

    async def ops(self, *words: str) -> tuple[int, Any]:
        """`main.py ops --json WORDS`: exit code and what it printed."""
        run = await program("main.py", "ops", "--json", *words, env=self.env)
        code = await asyncio.wait_for(run.process.wait(), 30)
        await asyncio.gather(*run._reading)
        found = re.search(r"^\{.*\}$", run.output, re.MULTILINE)
        return code, json.loads(found[0]) if found else run.output

    async def hosts(self) -> list[dict[str, Any]]:
        """The node's host processes."""
        code, told = await self.ops("hosts")
        assert code == 0, told
        return [host for node in told["nodes"].values() for host in node["hosts"]]

    async def close(self) -> None:
        await self.session.close()
        for one in (self.node, self.network):
            if one.process.returncode is None:
                await one.end()


async def network() -> tuple[Program, str]:
    """A phone network and its address."""
    started = await program("-m", "transports.simulator", "--seed", "1")
    return started, (await started.wait_said(r"phone network at (http://\S+)"))[1]


@contextlib.asynccontextmanager
async def live_node(**settings: str) -> AsyncIterator[LiveNode]:
    """A node with its own embedded database, and a network; `settings` are environment variables."""
    var = Path(tempfile.mkdtemp(prefix="rd-"))  # short: sockets lie in it
    calling, network_url = await network()
    env = {
        "NODE_VAR": str(var),
        "NODE_PORT": "0",
        "NODE_NAME": "n1",
        "NODE_DRAIN_SECONDS": "2",
        "TWILIO_API_URL": network_url,
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
        "CALLS_MAX_HOSTS": "3",
    } | settings
    node = await program("main.py", "serve", env=env)
    try:
        url = (await node.wait_said(r"takes calls at (http://\S+)"))[1]
        live = LiveNode(node, calling, (url, network_url), env)
        try:
            yield live
        finally:
            await live.close()
    finally:
        for one in (node, calling):
            if one.process.returncode is None:
                one.process.kill()
                await one.process.wait()
        shutil.rmtree(var, ignore_errors=True)
