"""Two nodes of this machine that share their embedded servers and one public address, and a phone network."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from tests.doubles.live_node import LiveNode, Program, network, program, wait_for
from tests.doubles.proxy import Proxy, free_ports, proxy

GONE_SECONDS = 15.0


class Nodes:
    """Nodes by their names; `line` is the caller's and the API's way to them, through their proxy."""

    line: LiveNode

    def __init__(self, front: Proxy, ports: dict[str, int], env: dict[str, str]) -> None:
        self.front, self.ports, self.env = front, ports, env
        self.running: dict[str, Program] = {}

    async def start(self, name: str) -> Program:
        """Start a node, and return when it takes calls."""
        env = self.env | {"NODE_NAME": name, "NODE_PORT": str(self.ports[name]), "NODE_PUBLIC_URL": self.front.url}
        node = self.running[name] = await program("main.py", "serve", env=env)
        await node.wait_said(r"takes calls at (http://\S+)")
        return node

    async def kill(self, name: str) -> None:
        """Kill a node's supervisor, and see every process of the node go with it; the servers are nobody's own."""
        victim = self.running[name].process
        family = [one for one in psutil.Process(victim.pid).children(recursive=True) if not is_server(one)]
        assert len(family) >= 4, "host, gateway, template, turn server"
        victim.kill()
        await victim.wait()

        async def gone() -> bool:
            return not any(map(lives, family))

        try:
            await wait_for(gone, GONE_SECONDS)
        except TimeoutError:
            raise AssertionError([one.cmdline() for one in family if lives(one)]) from None

    async def end(self, name: str) -> None:
        """Stop a node as an operator does."""
        assert await self.running[name].end() in {0, 130, 143}, self.running[name].output

    def database_pid(self) -> int:
        """The process of the database that all nodes share."""
        file = Path(self.env["NODE_VAR"]) / "postgres" / "data" / "postmaster.pid"
        return int(file.read_text().splitlines()[0])


def lives(one: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(one.is_running() and one.status() != psutil.STATUS_ZOMBIE)
    return False


def is_server(one: psutil.Process) -> bool:
    """Whether this is an embedded server, or its keeper."""
    with contextlib.suppress(psutil.Error):
        return any("infra.embedded.keeper" in " ".join(each.cmdline()) for each in (one, *one.parents()))
    return False


@contextlib.asynccontextmanager
async def nodes(*names: str, **settings: str) -> AsyncIterator[Nodes]:
    """Nodes of these names behind one proxy; the first has started, the others are started by the test."""
    var = Path(tempfile.mkdtemp(prefix="rd-"))  # short: sockets lie in it
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    calling, network_url = await network()
    env = {
        "NODE_VAR": str(var),
        "NODE_DRAIN_SECONDS": "3",
        "TWILIO_API_URL": network_url,
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
        "CALLS_PERSONA": "talker",
        "CALLS_MAX_HOSTS": "3",
    } | settings
    async with proxy(tuple(ports.values())) as front:
        made = Nodes(front, ports, env)
        try:
            first = await made.start(names[0])
            made.line = LiveNode(first, calling, (front.url, network_url), env)
            try:
                yield made
            finally:
                await made.line.session.close()
        finally:
            for one in (*made.running.values(), calling):
                if one.process.returncode is None:
                    await one.end()
            shutil.rmtree(var, ignore_errors=True)
