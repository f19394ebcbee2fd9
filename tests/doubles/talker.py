"""Calls of the persona `talker`, whose numbered lines show whether a call lost or repeated anything."""

from __future__ import annotations

import re
from typing import Any

from tests.doubles.live_node import LiveNode

LINES = [f"This is line number {number} of 12." for number in range(1, 13)]
LINE = re.compile(r"This is line number \d+ of 12\.")
END_SECONDS = 240.0


async def talking(node: LiveNode, lines: int = 2) -> tuple[str, str]:
    """A live call that has got so far: the carrier's id and ours."""
    sid = await node.dial("talker")
    call_id = await node.by_sid(sid)
    await node.wait_call(call_id, lambda told: len(said(told)) >= lines)
    return sid, call_id


def said(told: dict[str, Any]) -> list[str]:
    """The numbered lines in the record, in order."""
    return [line for turn in told["turns"] for line in LINE.findall(turn["text"])]


def heard(told: dict[str, Any]) -> list[str]:
    """The numbered lines that left the line in full."""
    return [line for turn in told["turns"] for line in LINE.findall(turn["spoken"])]


async def went_on_to_its_end(node: LiveNode, call_id: str) -> dict[str, Any]:
    """The call, which must have come to its scripted end with every line once."""
    told = await node.wait_over(call_id, END_SECONDS)
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "bot_hung_up"), told
    assert said(told) == LINES, told
    assert heard(told) == LINES, told
    assert [turn["number"] for turn in told["turns"]] == list(range(1, len(told["turns"]) + 1))
    return told
