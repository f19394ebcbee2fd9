"""The rehearsal does what a first call would do, once, and leaves nothing behind that a fork would copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys, threading
from infra.settings import load
from transports import host
from transports.node import dump
from transports.rehearsal import rehearse
settings = load(environ={}, node_var=sys.argv[1])
host.prepare({"settings": dump(settings)})
known, files = set(sys.modules), set(os.listdir("/proc/self/fd"))
ended = rehearse(settings)
print(json.dumps({
    "ended": ended,
    "imported": sorted(set(sys.modules) - known),
    "threads": [thread.name for thread in threading.enumerate()],
    "descriptors": len(set(os.listdir("/proc/self/fd")) - files),
}))
"""


def test_a_hosts_first_call_imports_nothing_new(tmp_path: Path) -> None:
    """Architecture 2: the template has loaded whatever a call loads, and holds no thread, socket or loop of it."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told == {"ended": True, "imported": [], "threads": ["MainThread"], "descriptors": 0}
