"""The host keeper: every call a slot or a clean refusal, and no slot lost whoever dies. No process, no clock runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from actors.hosts import (
    RESERVATION_SECONDS,
    Claim,
    DrainHost,
    Expect,
    Full,
    HostKeeper,
    Hosts,
    Limits,
    ListHosts,
    Placed,
    Probe,
    Release,
    Reserve,
    Reserved,
)
from actors.runtime import (
    Actor,
    ActorSpec,
    ManualClock,
    Message,
    ProcessFailed,
    ProcessSpec,
    ProcessStatus,
    Ref,
    System,
)


class HostDouble(Actor):
    """Stands for a host process; `stop` of it is the process's death."""


class Drainer(Actor):
    """Remembers that it was told to drain."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    async def receive(self, message: Message) -> None:
        if isinstance(message, DrainHost):
            self._told.append(message.host)


class Processes:
    """A placement without processes."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.statuses: dict[str, ProcessStatus] = {"turns": ProcessStatus("turns", "running")}
        self.drained: list[str] = []
        self.refuse = 0  # so many starts fail

    async def start(self, spec: ProcessSpec) -> Ref:
        if self.refuse:
            self.refuse -= 1
            raise ProcessFailed(spec.name)
        self.statuses[spec.name] = ProcessStatus(spec.name, "running")
        await self.system.spawn(ActorSpec(lambda: Drainer(self.drained), f"{spec.name}/drainer"))
        return await self.system.spawn(ActorSpec(HostDouble, spec.name))

    async def stop(self, name: str, reason: str = "stopped") -> None:
        self.statuses.pop(name, None)
        await self.system.stop_actor(name, reason)

    async def close(self) -> None:
        pass

    def status(self) -> tuple[ProcessStatus, ...]:
        return tuple(self.statuses.values())


class Exchange:
    """A keeper in a system whose time stands still."""

    def __init__(self, system: System, clock: ManualClock) -> None:
        self.system, self.clock = system, clock
        self.processes = Processes(system)
        self.keeper = system.ref("hosts")

    async def open(self, limits: Limits) -> None:
        def host(name: str) -> tuple[ProcessSpec, str]:
            return ProcessSpec(name, "nowhere:main"), f"/run/{name}.sock"

        await self.system.spawn(
            ActorSpec(lambda: HostKeeper(self.processes, host, limits), "hosts", restart="permanent", mailbox=500)
        )
        await self.clock.settle()

    async def crash(self) -> None:
        """Let the keeper crash and be started again."""
        await self.keeper.tell(Reserve(call=[]))  # type: ignore[arg-type]  # unhashable
        await self.clock.settle()

    def reports(self, host: str, **report: object) -> None:
        """What a host tells of itself with its pings."""
        self.processes.statuses[host] = replace(self.processes.statuses[host], report=report)

    async def ask(self, message: Message) -> Message | None:
        answer = await self.clock.drive(self.keeper.ask(message, timeout=5.0))
        await self.clock.settle()
        return answer

    async def tell(self, message: Message) -> None:
        await self.keeper.tell(message)
        await self.clock.settle()

    async def hosts(self) -> dict[str, list[str]]:
        answer = await self.ask(ListHosts())
        assert isinstance(answer, Hosts)
        return {host["host"]: host["calls"] for host in answer.hosts}

    async def placed(self, call: str, ticket: int = 1) -> str:
        assert isinstance(await self.ask(Reserve(call)), Reserved)
        answer = await self.ask(Claim(call, ticket))
        assert isinstance(answer, Placed), answer
        return answer.host


LIMITS = Limits(per_host=5, max_hosts=4, warm_hosts=1, max_lag_ms=100.0, max_turn_delay_ms=600.0)


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[Exchange]:
    clock = ManualClock()
    system = await System("node", clock=clock).open()
    exchange = Exchange(system, clock)
    await exchange.open(LIMITS)
    yield exchange
    await clock.drive(system.stop())


async def test_a_warm_host_waits_before_the_first_call(exchange: Exchange) -> None:
    """COM-04: a call does not wait for a process to start."""
    assert await exchange.hosts() == {"host-1": []}


async def test_a_hundred_starts_on_twenty_slots_are_twenty_calls_and_eighty_clean_refusals(exchange: Exchange) -> None:
    """COM-04: none is lost, and no host is given more than it holds."""
    answers = [await exchange.ask(Reserve(f"call_{number}")) for number in range(100)]
    assert sum(isinstance(answer, Reserved) for answer in answers) == 20
    refused = [answer for answer in answers if isinstance(answer, Full)]
    assert len(refused) == 80
    assert all(answer.retry_after > 0 and answer.why for answer in refused)
    placed = [await exchange.ask(Claim(f"call_{number}", 1)) for number in range(20)]
    assert all(isinstance(answer, Placed) for answer in placed)
    assert sorted(len(calls) for calls in (await exchange.hosts()).values()) == [5, 5, 5, 5]
    assert isinstance(await exchange.ask(Reserve("one_more")), Full)


async def test_a_reservation_is_kept_once_however_often_it_is_asked_for(exchange: Exchange) -> None:
    """COM-46: a repeated webhook takes no second slot."""
    for _ in range(50):
        assert isinstance(await exchange.ask(Reserve("call_a")), Reserved)
    for number in range(19):
        assert isinstance(await exchange.ask(Reserve(f"call_{number}")), Reserved)
    assert isinstance(await exchange.ask(Reserve("call_z")), Full)


async def test_a_reservation_whose_media_never_came_is_given_back(exchange: Exchange) -> None:
    """COM-04: by time, and at once when the call is known to be over."""
    for number in range(20):
        await exchange.ask(Reserve(f"call_{number}"))
    await exchange.tell(Release("call_0"))
    assert isinstance(await exchange.ask(Reserve("call_a")), Reserved)
    assert isinstance(await exchange.ask(Reserve("call_b")), Full)
    await exchange.clock.advance(RESERVATION_SECONDS + 1)
    assert isinstance(await exchange.ask(Reserve("call_b")), Reserved)


async def test_the_fullest_host_that_keeps_time_is_filled_first(exchange: Exchange) -> None:
    """COM-04: idle hosts stay warm for the next burst, and a lagging one is passed by."""
    first = await exchange.placed("call_a")
    assert await exchange.placed("call_b") == first
    exchange.processes.statuses[first] = replace(exchange.processes.statuses[first], lag_p99_ms=500.0)
    assert await exchange.placed("call_c") != first


async def test_hosts_stand_ready_for_calls_that_are_booked(exchange: Exchange) -> None:
    """CMB-40: a booked call finds a warm host, however many are booked for the same minute, within the limit."""
    await exchange.tell(Expect(LIMITS.per_host + 1))
    assert len(await exchange.hosts()) == 2
    await exchange.tell(Expect(10 * LIMITS.per_host * LIMITS.max_hosts))
    assert len(await exchange.hosts()) == LIMITS.max_hosts


async def test_turn_decisions_that_take_too_long_refuse_new_calls(exchange: Exchange) -> None:
    """COM-04: the turn server starves before any CPU figure shows it."""
    turns = exchange.processes.statuses["turns"]
    exchange.processes.statuses["turns"] = replace(turns, report={"turn_delay_p95_ms": 900.0})
    answer = await exchange.ask(Reserve("call_a"))
    assert isinstance(answer, Full)
    assert "900" in answer.why


async def test_a_dead_host_gives_its_slots_back_and_is_replaced(exchange: Exchange) -> None:
    """COM-02, COM-15: its calls can be taken elsewhere at once."""
    for number in range(20):
        await exchange.placed(f"call_{number}")
    victim = next(iter(await exchange.hosts()))
    await exchange.clock.drive(exchange.processes.stop(victim, "killed"))
    hosts = await exchange.hosts()
    assert victim not in hosts
    assert len(hosts) == 4
    for number in range(5):
        await exchange.placed(f"again_{number}")
    assert isinstance(await exchange.ask(Reserve("one_more")), Full)


async def test_a_host_that_does_not_start_is_tried_again(exchange: Exchange) -> None:
    """COM-02: a failed fork is no lost slot."""
    exchange.processes.refuse = 2
    [victim] = await exchange.hosts()
    await exchange.clock.drive(exchange.processes.stop(victim, "killed"))
    assert await exchange.hosts() == {}
    await exchange.clock.advance(3.0)
    assert len(await exchange.hosts()) == 1


async def test_a_drained_host_gets_no_more_calls_and_is_told(exchange: Exchange) -> None:
    """COM-16: its place is taken by another."""
    first = await exchange.placed("call_a")
    await exchange.ask(DrainHost(first))
    assert exchange.processes.drained == [first]
    assert await exchange.placed("call_b") != first
    assert await exchange.placed("call_a", ticket=2) != first
    assert (await exchange.hosts())[first] == []


async def test_a_drained_node_takes_nothing(exchange: Exchange) -> None:
    """COM-16: neither new calls nor those that come back, which other nodes take."""
    await exchange.placed("call_a")
    await exchange.ask(DrainHost())
    assert isinstance(await exchange.ask(Reserve("call_b")), Full)
    assert isinstance(await exchange.ask(Reserve("call_a")), Full)
    assert isinstance(await exchange.ask(Claim("call_a", 2)), Full)
    assert isinstance(await exchange.ask(Probe()), Full), "and says so to who asks whether it is ready"


async def test_a_restarted_keeper_takes_up_the_hosts_that_run_and_their_calls(exchange: Exchange) -> None:
    """COM-02: no host is started twice or forgotten, no slot given twice, and each call's end is understood."""
    first = await exchange.placed("call_a", ticket=1)
    await exchange.ask(DrainHost(first))
    second = await exchange.placed("call_b", ticket=2)
    exchange.reports(first, calls={"call_a": 1}, draining=True)
    exchange.reports(second, calls={"call_b": 2}, draining=False)
    before = await exchange.hosts()
    await exchange.crash()
    after = await exchange.hosts()
    assert after == before
    assert await exchange.placed("call_c") != first, "it is draining still"
    assert isinstance(await exchange.ask(Claim("call_b", 2)), Full), "its ticket is spent"
    await exchange.tell(Release("call_a", first, 1))
    assert first not in await exchange.hosts(), "it was drained, and its last call has left"


async def test_a_restarted_keeper_numbers_on_and_watches_the_hosts_it_took_up(exchange: Exchange) -> None:
    """COM-02: a death after the restart is seen, and the new host takes nobody's name."""
    for number in range(6):
        await exchange.placed(f"call_{number}")
    names = set(await exchange.hosts())
    await exchange.crash()
    await exchange.clock.drive(exchange.processes.stop("host-1", "killed"))
    for number in range(20):
        await exchange.ask(Reserve(f"again_{number}"))
    after = set(await exchange.hosts())
    assert "host-1" not in after
    assert after - names
    assert min(int(name.partition("-")[2]) for name in after - names) > len(names)


async def test_the_old_host_of_a_moved_call_does_not_free_its_new_slot(exchange: Exchange) -> None:
    """COM-04: a late word from the host that let go changes nothing."""
    first = await exchange.placed("call_a")
    await exchange.ask(DrainHost(first))
    second = await exchange.placed("call_a", ticket=2)
    await exchange.tell(Release("call_a", first, 1))
    assert (await exchange.hosts())[second] == ["call_a"]


async def test_an_old_stream_does_not_free_the_slot_of_the_new_one_on_the_same_host(exchange: Exchange) -> None:
    """COM-04: a call whose line dropped often comes back to the host it had."""
    host = await exchange.placed("call_a", ticket=1)
    assert await exchange.placed("call_a", ticket=2) == host
    await exchange.tell(Release("call_a", host, 1))
    assert (await exchange.hosts())[host] == ["call_a"]
    await exchange.tell(Release("call_a", host, 2))
    assert (await exchange.hosts())[host] == []


async def test_a_ticket_used_again_moves_nothing(exchange: Exchange) -> None:
    """CMB-18: whoever replays a ticket neither gets a host nor takes the call's slot."""
    host = await exchange.placed("call_a", ticket=3)
    assert isinstance(await exchange.ask(Claim("call_a", 3)), Full)
    assert isinstance(await exchange.ask(Claim("call_a", 2)), Full)
    assert (await exchange.hosts())[host] == ["call_a"]


async def test_a_call_comes_back_to_a_full_node_in_its_own_slot(exchange: Exchange) -> None:
    """COM-15: a dropped line needs no free slot, since it has one."""
    for number in range(20):
        await exchange.placed(f"call_{number}")
    await exchange.placed("call_7", ticket=2)
    assert isinstance(await exchange.ask(Reserve("one_more")), Full)


@pytest.mark.parametrize("ticket", [0, 9])
async def test_an_ended_call_frees_its_slot_wherever_it_is(exchange: Exchange, ticket: int) -> None:
    """COM-04: the carrier's word that a call is over is enough."""
    host = await exchange.placed("call_a", ticket=ticket)
    await exchange.tell(Release("call_a"))
    assert (await exchange.hosts())[host] == []
