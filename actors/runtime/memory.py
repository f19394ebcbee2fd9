"""How much memory a process costs, counted so that shared pages are divided among those who share them."""

from __future__ import annotations

from pathlib import Path


def read_pss_mb(pid: int) -> float | None:
    """The proportional set size in MB, from `smaps_rollup` (proc(5)); None when the process is gone. May take
    milliseconds, so call it in a thread."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return None
