"""Tiny process entries and actors for the tests of the actor runtime; no part of the product is in them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any, ClassVar

from actors.runtime import Actor, ActorSpec, Down, Message, Refused, System


class Say(Message, tag="test.say"):
    """Echoed."""

    text: str = ""


class Urgent(Message, tag="test.urgent"):
    """Echoed, and overtakes."""

    control: ClassVar[bool] = True
    text: str = ""


class Crash(Message, tag="test.crash"):
    """The receiver raises."""

    reason: str = "asked to"


class Quit(Message, tag="test.quit"):
    """The receiver ends normally."""

    control: ClassVar[bool] = True


class Decline(Message, tag="test.decline"):
    """The receiver refuses."""


class Nap(Message, tag="test.nap"):
    """The receiver handles this for so long."""

    seconds: float = 0.0


class Block(Message, tag="test.block"):
    """The receiver holds up its whole loop."""

    seconds: float = 0.0


class Eat(Message, tag="test.eat"):
    """The receiver takes so much memory."""

    megabytes: int = 0


class Observe(Message, tag="test.observe"):
    """The receiver watches this address."""

    address: str = ""


class Heard(Message, tag="test.heard"):
    """What the receiver has heard so far."""

    texts: tuple[str, ...] = ()


class Recall(Message, tag="test.recall"):
    """Asks for `Heard`."""

    control: ClassVar[bool] = True


class Who(Message, tag="test.who"):
    """Asks for `Process`."""


class ProcessFacts(Message, tag="test.facts"):
    """Where an actor lives."""

    pid: int
    parent: int = 0
    threads: int = 0
    variable: str = ""
    told: str = ""
    modules: tuple[str, ...] = ()


class Relay(Message, tag="test.relay"):
    """The receiver asks another actor with `Say` and returns its answer."""

    address: str
    text: str = ""


class Parrot(Actor):
    """Does what the messages above say."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.ballast: list[bytearray] = []

    async def receive(self, message: Message) -> Message | None:
        match message:
            case Say(text=text) | Urgent(text=text):
                self.heard.append(text)
                return message
            case Crash():
                raise ValueError(message.reason)
            case Quit():
                self.context.stop("asked to quit")
            case Decline():
                raise Refused("not today")
            case Nap():
                await asyncio.sleep(message.seconds)
            case Block():
                time.sleep(message.seconds)  # noqa: ASYNC251 - this is the fault
            case Eat():
                self.ballast.append(bytearray(os.urandom(1 << 20) * message.megabytes))
            case Observe():
                self.context.watch(message.address)
            case Down():
                self.heard.append(f"{message.address} down: {message.reason}")
            case Recall():
                return Heard(tuple(self.heard))
            case Who():
                return facts()
            case Relay():
                return await self.context.ref(message.address).ask(Say(message.text), timeout=2.0)
        return None

    def snapshot(self) -> dict[str, Any]:
        return {"heard": len(self.heard)}


def facts() -> ProcessFacts:
    """What the present process can say about itself."""
    return ProcessFacts(
        pid=os.getpid(),
        parent=os.getppid(),
        threads=len(os.listdir("/proc/self/task")),  # noqa: PTH208
        variable=os.environ.get("OMP_NUM_THREADS", ""),
        told=os.environ.get("TEST_TOLD", ""),
        modules=tuple(name for name in ("colorsys",) if name in sys.modules),
    )


async def parrots(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """Runs one parrot per name in `args` until it is cancelled."""
    for name in args.get("names", []):
        await system.spawn(ActorSpec(Parrot, name, mailbox=args.get("mailbox", 256)))
    system.report(lambda: {"parrots": len(args.get("names", []))})
    for fd in fds.values():
        os.write(fd, b"here")
    system.ready()
    await asyncio.Event().wait()


async def stubborn(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """Does not let itself be cancelled."""
    system.ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


async def stubborn_before_ready(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """Never says that it is ready."""
    await asyncio.Event().wait()


async def brief(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """Returns at once."""
    system.ready()


async def broken(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """Fails at once."""
    raise RuntimeError("born broken")


async def litter(system: System, args: dict[str, Any], fds: dict[str, int]) -> None:
    """Starts a program of its own and reports its number."""
    program = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - left behind on purpose
    system.report(lambda: {"program": program.pid})
    system.ready()
    await asyncio.Event().wait()


def prepare(told: dict[str, Any]) -> None:
    """What a template does besides importing."""
    os.environ["TEST_TOLD"] = str(told.get("word", ""))
