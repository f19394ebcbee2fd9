"""Logs can be read by machines, follow one call through everything, and tell nobody's secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import loguru
import pytest
import structlog

from infra.settings import load
from infra.telemetry import Redactor, configure, identified

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logs() -> Iterator[Callable[..., Lines]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(**environ: str) -> Lines:
        stream = io.StringIO()
        configure(load(environ={"TWILIO_AUTH_TOKEN": "hidden-token", **environ}), stream=stream)
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    yield start
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    loguru.logger.remove()


async def test_one_id_follows_a_call_through_every_task(logs: Callable[..., Lines]) -> None:
    """COM-56: a call's lines bear its id, also in tasks started for it, and others' lines do not."""
    lines = logs()
    log = structlog.get_logger()

    async def speak() -> None:
        log.info("spoke")

    with identified(call_id="call_1", request_id="req_1"):
        await asyncio.create_task(speak())
    log.info("later")
    spoke, later = lines()
    assert (spoke["event"], spoke["call_id"], spoke["request_id"], spoke["level"]) == (
        "spoke",
        "call_1",
        "req_1",
        "info",
    )
    assert "call_id" not in later


def test_the_default_level_tells_no_number_word_or_secret(logs: Callable[..., Lines]) -> None:
    """COM-56: prompts, transcripts, numbers and secrets never appear at default level, wherever they hide."""
    lines = logs()
    log = structlog.get_logger()
    log.info("turn", text="my heart hurts", turns=[{"heard": "my heart hurts"}], number=3, wait_s=0.25)
    log.info("dialled +1 (555) 010-0001", to_number="15550100001", query="To=%2B15550100001&x=1")
    log.info("form", values={"deep": [{"caller": "+15550100001", "mail": "a.b@example.com"}]})
    log.info("carrier", auth_token="abc", url="postgresql://me:open-sesame@host/x", why="bad hidden-token")
    log.debug("unseen", text="my heart hurts")
    try:
        raise ValueError("no such number +15550100001")
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").warning("calling %s with %s", "+15550100001", "hidden-token")
    loguru.logger.warning("speaking to +15550100001")
    loguru.logger.info("Generating speech [my heart hurts]")
    said = json.dumps(lines())
    for forbidden in ("5550100001", "555) 010", "heart", "example.com", "open-sesame", "hidden-token", "abc"):
        assert forbidden not in said
    turn = lines()[0]
    assert (turn["text"], turn["number"], turn["wait_s"]) == ("[speech, 14 long]", 3, 0.25)
    assert "ValueError" in lines()[4]["exception"]
    assert [line["event"] for line in lines()[5:]] == [
        "calling [number] with [secret]",
        "speaking to [number]",
    ]


def test_debug_level_shows_what_was_said_but_no_secret(logs: Callable[..., Lines]) -> None:
    """COM-56: an operator may look at speech on purpose; secrets stay out at every level."""
    lines = logs(LOG_LEVEL="debug")
    structlog.get_logger().debug("turn", text="hello", to_number="+15550100001", api_key="xyz", why="hidden-token")
    line = lines()[0]
    assert (line["text"], line["to_number"], line["api_key"], line["why"]) == (
        "hello",
        "+15550100001",
        "[secret]",
        "[secret]",
    )


@pytest.mark.parametrize(
    "harmless",
    [
        "call_0197a3b2c1d47e5f9a6b123456789012",
        "2026-11-20T13:49:04.888123+00:00",
        "took 1795182544.123 s",
        "127.0.0.1:54321",
        "host-1 of 10 at 8000 Hz",
        "AC00000000000000000000000000000000",
    ],
)
def test_ids_times_and_addresses_are_left_alone(harmless: str) -> None:
    assert Redactor().scrub(harmless) == harmless


def test_a_terminal_gets_lines_for_people() -> None:
    stream = io.StringIO()
    configure(load(environ={"LOG_FORMAT": "console"}), stream=stream)
    structlog.get_logger().info("node_ready", port=1)
    structlog.reset_defaults()
    assert "node_ready" in stream.getvalue()
    assert "port=1" in stream.getvalue()
