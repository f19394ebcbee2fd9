"""The host keeper: which host process runs which call, and whether another one fits.

It is an actor of the node supervisor. A gateway reserves a slot before a call is answered or dialled, and claims
it when the media socket arrives. Hosts come from the warm pool; a host that dies gives its slots back at once.
Admission looks at what starves first: slots, then the hosts' loop lag, then the turn server's delay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import structlog

from actors.runtime import Actor, ActorError, Done, Down, Message, Placement, ProcessSpec, ProcessStatus, Refused

log = structlog.get_logger()
RESERVATION_SECONDS = 60.0  # from TwiML or dial to the media socket
EXPECTED_SECONDS = 40.0  # an expectation that is not renewed is over
RETRY_SECONDS = 5
HOST_NAME = re.compile(r"host-(\d+)")


class Reserve(Message, tag="reserve"):
    """Keep a slot for a call that is about to be answered or dialled."""

    call: str


class Claim(Message, tag="claim"):
    """The media socket of a call has arrived by this ticket: name the host that takes it."""

    call: str
    ticket: int = 0


class Release(Message, tag="release"):
    """The media of a call's ticket has left this host, or, without a host, the call is over or will not come."""

    control: ClassVar[bool] = True
    call: str
    host: str = ""
    ticket: int = 0


class Expect(Message, tag="expect"):
    """So many calls will begin within half a minute: have hosts ready for them."""

    calls: int


class DrainHost(Message, tag="drain_host"):
    """Let no more calls in and move the live ones away; `""` means every host of the node."""

    control: ClassVar[bool] = True
    host: str = ""


class ListHosts(Message, tag="list_hosts"):
    """Ask for every host with its calls."""


class Probe(Message, tag="probe_hosts"):
    """Ask whether this node takes calls at all; `Reserved` or `Full`, and nothing is kept."""


class Reserved(Message, tag="reserved"):
    """A slot is kept."""


class Placed(Message, tag="placed"):
    """The host that takes the call and the path of its intake socket."""

    host: str
    intake: str


class Full(Message, tag="full"):
    """No slot can be given now; by a node that is `draining` none will be."""

    why: str
    retry_after: int = RETRY_SECONDS
    draining: bool = False


DRAINING = Full("this node is draining", retry_after=1, draining=True)


class Hosts(Message, tag="hosts"):
    """The hosts of this node."""

    hosts: list[dict[str, Any]]


class Refill(Message, tag="refill"):
    """Time to see again whether there are enough hosts."""


@dataclass(slots=True)
class Host:
    """One host process as its keeper sees it."""

    name: str
    intake: str
    calls: dict[str, int] = field(default_factory=dict)  # call id to the ticket its media came by
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node admits."""

    per_host: int
    max_hosts: int
    warm_hosts: int
    max_lag_ms: float
    max_turn_delay_ms: float


class HostKeeper(Actor):
    """Gives calls to hosts.

    Args:
        processes: starts the hosts.
        host: what to start as the host of a given name, and the path of its intake. A host's report holds its
            `calls`, each with the ticket its media came by, and whether it is `draining`.
        limits: the node's capacity.
        turns: the name of the turn server's process; its report holds its delay.
    """

    def __init__(
        self,
        processes: Placement,
        host: Callable[[str], tuple[ProcessSpec, str]],
        limits: Limits,
        turns: str = "turns",
    ) -> None:
        self._processes, self._host_spec, self._limits, self._turns = processes, host, limits, turns
        self._hosts: dict[str, Host] = {}
        self._reserved: dict[str, float] = {}
        self._numbers = count(1)
        self._starting = 0
        self._expected = 0, 0.0  # calls, and until when they are expected
        self._draining = False

    async def start(self) -> None:
        self._adopt()
        self._refill()

    async def receive(self, message: Message) -> Message | None:
        match message:
            case Reserve(call=call):
                return self._reserve(call)
            case Claim(call=call, ticket=ticket):
                return self._claim(call, ticket)
            case Release(call=call, host=host, ticket=ticket):
                self._release(call, host, ticket)
            case Expect(calls=calls):
                self._expected = calls, self.context.clock.monotonic() + EXPECTED_SECONDS
                self._refill()
            case Refill():
                self._refill()
            case Down(address=address, reason=reason):
                self._lost(address, reason)
            case DrainHost(host=name):
                await self._drain(name)
                return Done()
            case Probe():
                return DRAINING if self._draining else Reserved()
            case ListHosts():
                return Hosts([self._view(host) for host in self._hosts.values()])
        return None

    def snapshot(self) -> dict[str, Any]:
        return {
            "hosts": len(self._hosts),
            "calls": sum(len(host.calls) for host in self._hosts.values()),
            "reserved": len(self._reserved),
            "draining": self._draining,
        }

    def _reserve(self, call: str) -> Message:
        now = self.context.clock.monotonic()
        self._reserved = {c: until for c, until in self._reserved.items() if until > now}
        if call in self._reserved:
            return Reserved()
        if self._draining:
            return DRAINING
        if any(call in host.calls and not host.draining for host in self._hosts.values()):
            return Reserved()  # a call that comes back has its slot until it takes another
        busy = sum(len(host.calls) for host in self._hosts.values()) + len(self._reserved)
        if busy >= self._limits.max_hosts * self._limits.per_host:
            return Full("every slot is taken")
        delay = float(self._report(self._turns).report.get("turn_delay_p95_ms", 0.0))
        if delay > self._limits.max_turn_delay_ms:
            return Full(f"turn decisions take {delay:.0f} ms")
        open_hosts = [host for host in self._hosts.values() if not host.draining]
        if len(open_hosts) >= self._limits.max_hosts and all(self._lags(host) for host in open_hosts):
            return Full("every host's loop lags")
        self._reserved[call] = now + RESERVATION_SECONDS
        self._refill()
        return Reserved()

    def _claim(self, call: str, ticket: int) -> Message:
        if self._draining:
            return DRAINING
        for host in self._hosts.values():
            if ticket and host.calls.get(call, 0) >= ticket:
                return Full("this ticket has been used", retry_after=1)
            host.calls.pop(call, None)  # a resumed call leaves the slot it had
        room = [h for h in self._hosts.values() if not h.draining and len(h.calls) < self._limits.per_host]
        self._refill()
        if not room:
            return Full("no host has a free slot", retry_after=1)
        # Fill up the fullest host that keeps time: idle hosts stay warm for the next burst.
        host = min(room, key=lambda h: (self._lags(h), -len(h.calls)))
        host.calls[call] = ticket
        self._reserved.pop(call, None)
        self._refill()
        return Placed(host.name, host.intake)

    def _release(self, call: str, name: str, ticket: int) -> None:
        if not name:
            self._reserved.pop(call, None)
        for host in self._hosts.values():
            if name not in ("", host.name):
                continue
            # A call that came back holds a newer slot, maybe on the same host; its old stream must not free that one.
            if not ticket or host.calls.get(call) == ticket:
                host.calls.pop(call, None)
            self._end_if_drained(host)

    def _end_if_drained(self, host: Host) -> None:
        """A drained host has done its work once its last call has left."""
        if host.draining and not host.calls and not self._draining:
            self.context.run(self._processes.stop(host.name, "drained"))

    def _adopt(self) -> None:
        """Take up the hosts that an earlier incarnation left: they run on, and so do their calls."""
        last = 0
        for status in self._processes.status():
            if (found := HOST_NAME.fullmatch(status.name)) is None:
                continue
            last = max(last, int(found[1]))
            if status.state != "running":
                continue
            calls, draining = status.report.get("calls", {}), bool(status.report.get("draining"))
            self._hosts[status.name] = Host(status.name, self._host_spec(status.name)[1], dict(calls), draining)
            self.context.watch(self.context.ref(status.name))
            log.warning("host_adopted", host=status.name, calls=len(calls))
        self._numbers = count(last + 1)

    def _lags(self, host: Host) -> bool:
        return self._report(host.name).lag_p99_ms > self._limits.max_lag_ms

    def _report(self, name: str) -> ProcessStatus:
        statuses = self._processes.status()
        return next((status for status in statuses if status.name == name), ProcessStatus(name, "gone"))

    def _lost(self, name: str, reason: str) -> None:
        host = self._hosts.pop(name, None)
        if host is not None:
            log.warning("host_lost", host=name, calls=len(host.calls), reason=reason)
        self._refill()

    def _refill(self) -> None:
        """Keep `warm_hosts` hosts without a call beyond those in use, within the node's limit."""
        open_hosts = [host for host in self._hosts.values() if not host.draining]
        idle = sum(1 for host in open_hosts if not host.calls) + self._starting
        slots = sum(self._limits.per_host - len(host.calls) for host in open_hosts)
        calls, until = self._expected
        coming = max(len(self._reserved), calls if self.context.clock.monotonic() < until else 0)
        waiting = coming - slots - self._starting * self._limits.per_host
        wanted = max(self._limits.warm_hosts - idle, -(-waiting // self._limits.per_host), 0)
        room = self._limits.max_hosts - len(open_hosts) - self._starting
        for _ in range(min(wanted, room) if not self._draining else 0):
            self._starting += 1
            self.context.run(self._add_host())

    async def _add_host(self) -> None:
        spec, intake = self._host_spec(f"host-{next(self._numbers)}")
        try:
            ref = await self._processes.start(spec)
        except ActorError as error:
            log.error("host_start_failed", host=spec.name, error=str(error))
            self.context.after(1.0, Refill())
            return
        finally:
            self._starting -= 1
        self._hosts[spec.name] = Host(spec.name, intake)
        self.context.watch(ref)
        self._refill()

    async def _drain(self, name: str) -> None:
        """Close hosts to new calls and tell each to move its calls away."""
        if not name:
            self._draining = True
        elif name not in self._hosts:
            raise Refused(f"this node has no host {name}; it has {', '.join(self._hosts) or 'none'}")
        for host in self._hosts.values():
            if name in ("", host.name):
                host.draining = True
                await self._tell_drain(host)
                self._end_if_drained(host)
        self._refill()

    async def _tell_drain(self, host: Host) -> None:
        try:
            await self.context.ref(f"{host.name}/drainer").tell(DrainHost(host.name))
        except ActorError as error:
            log.warning("drain_not_told", host=host.name, error=str(error))

    def _view(self, host: Host) -> dict[str, Any]:
        status = self._report(host.name)
        return {
            "host": host.name,
            "pid": status.pid,
            "calls": sorted(host.calls),
            "draining": host.draining,
            "pss_mb": status.pss_mb,
            "lag_p99_ms": status.lag_p99_ms,
            "age_s": status.age_s,
            "report": status.report,
        }
