"""The schedulers of several nodes, each a process that a test may kill: `python -m tests.doubles.schedule_node ...`.

A line `NAME` on standard input forks a node of this name, which has all its modules loaded already and so is up in a
moment; a line of JSON with its process number answers. When this program ends or dies, they all end.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import logging
import os
import signal
import sys

import structlog

from actors.runtime import ActorSpec, System, SystemClock
from infra.database.due import DueStore
from infra.database.leases import LeaseStore
from infra.database.pool import pool
from infra.telephony.twilio import TwilioCarrier
from scheduler.clock import SchedulerActor
from scheduler.dialer import Dialer
from scheduler.due import Sweeps
from tests.doubles.dialing import CarrierOnly

MISSED = dt.timedelta(hours=1)


async def node(told: argparse.Namespace, name: str, lifeline: int) -> None:
    """Run one node until it is killed, or the lifeline ends."""
    asyncio.get_running_loop().add_reader(lifeline, os._exit, 0)
    async with pool(told.database, min_size=2, max_size=8) as connections:
        lease, settle = dt.timedelta(seconds=told.lease), dt.timedelta(seconds=told.settle)
        store = DueStore(connections, name, lease=lease, missed=MISSED)
        carrier = TwilioCarrier("AC" + "0" * 32, "token", api_url=told.exchange, timeout_s=told.timeout)
        dialer = Dialer(store, CarrierOnly(connections, carrier), missed=MISSED, settle=settle)
        sweeps = Sweeps(store, dialer, hold_ahead=dt.timedelta(minutes=5))
        leases = LeaseStore(connections)
        async with System(name, clock=SystemClock()) as system:
            await system.spawn(ActorSpec(lambda: SchedulerActor(sweeps, dialer, leases), name="scheduler"))
            await asyncio.Event().wait()


def main() -> None:
    """Fork nodes until the end of the input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True)
    parser.add_argument("--exchange", required=True)
    parser.add_argument("--lease", type=float, default=3.0)
    parser.add_argument("--timeout", type=float, default=1.0)
    parser.add_argument("--settle", type=float, default=0.5)
    told = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    TwilioCarrier("AC" + "0" * 32, "token", api_url=told.exchange)  # loads what it loads on first use
    lifeline, mine = os.pipe()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(mine)
            asyncio.run(node(told, line.strip(), lifeline))
            os._exit(0)
        sys.stdout.write(json.dumps({"name": line.strip(), "pid": child}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
