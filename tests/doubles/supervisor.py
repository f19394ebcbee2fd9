"""A supervisor as a program of its own, for tests that kill one: `python -m tests.doubles.supervisor SOCKET`.

Prints one JSON line once its processes are up: the numbers of all processes by name. Ends in order on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import uvloop

from actors.runtime import ProcessSpec, Status, System
from actors.runtime.forked import ForkedPlacement

DOUBLES = "tests.doubles.processes"


async def main() -> None:
    """Run until SIGTERM."""
    system = await System("node").open()
    system.stop_on(signal.SIGTERM, signal.SIGINT)
    placement = await ForkedPlacement(system, preload=(DOUBLES,)).open()
    for name, start in (("forked", "fork"), ("execed", "exec"), ("other", "fork")):
        await system.spawn(
            ProcessSpec(
                name,
                f"{DOUBLES}:parrots",
                {"names": [f"parrot-{name}"]},
                start=start,  # type: ignore[arg-type]
                ready=True,
                grace_s=1.0,
            )
        )
    await system.spawn(ProcessSpec("litter", f"{DOUBLES}:litter", ready=True, ping_s=0.05, grace_s=1.0))
    await system.listen(sys.argv[1])
    while True:
        numbers = {status.name: status.pid for status in placement.status()}
        reports = {status.name: status.report for status in placement.status()}
        if "program" in reports["litter"]:
            break
        await asyncio.sleep(0.01)
    numbers["program"] = reports["litter"]["program"]
    numbers["template"] = _template(system.tree())
    sys.stdout.write(json.dumps(numbers) + "\n")
    sys.stdout.flush()
    await system.wait_stopped()


def _template(tree: tuple[Status, ...]) -> int:
    return next(int(status.snapshot["pid"]) for status in tree if status.name == "template")


if __name__ == "__main__":
    uvloop.run(main())
