"""Carrier calls through the real `twilio` package, against a REST double that can fail in every way (COM-79)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from multidict import MultiDictProxy

from infra.telephony import (
    CarrierBusy,
    CarrierDown,
    CarrierRefused,
    OutcomeUnknown,
    Placement,
    answered_by,
    state_of,
)
from infra.telephony.twilio import TwilioCarrier

SID, TOKEN = "AC" + "0" * 32, "token"
CALL = "CA" + "1" * 32
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PLACEMENT = Placement(
    to="+15550100001",
    from_number="+15550100000",
    answer_url="https://a/answer",
    status_url="https://a/status",
    machine_url="https://a/machine",
    time_limit_s=960,
    key="call_1",
)


def record(**fields: Any) -> dict[str, Any]:
    return {
        "sid": CALL,
        "status": "queued",
        "to": "+15550100001",
        "from": "+15550100000",
        "direction": "outbound-api",
        "date_created": format_datetime(NOW),
        "start_time": None,
        "end_time": None,
        "duration": None,
        "answered_by": None,
    } | fields


class Rest:
    """Twilio's REST API as far as a test scripts it: one answer after the other, the last one for good."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[tuple[str, str, MultiDictProxy[Any], web.Request]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.asked.append((request.method, request.path, form, request))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "hang":
            await asyncio.sleep(60)
        if answer == "drop":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if isinstance(answer, dict):
            return web.json_response(answer, status=201 if request.method == "POST" else 200)
        status, text, headers = answer
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")


def error(status: int, code: int | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    return status, f'{{"code": {code or "null"}, "message": "no", "status": {status}}}', headers


@asynccontextmanager
async def carrier(*answers: Any, timeout_s: float = 5.0) -> AsyncIterator[tuple[TwilioCarrier, Rest]]:
    rest = Rest()
    rest.answers = list(answers)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", rest.handle)
    async with TestServer(app) as server:
        real = TwilioCarrier(SID, TOKEN, api_url=str(server.make_url("/")), timeout_s=timeout_s)
        try:
            yield real, rest
        finally:
            await real.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.telephony.twilio.BACKOFF_SECONDS", 0.001)


async def test_a_call_is_placed_as_the_carrier_documents_it() -> None:
    async with carrier(record()) as (twilio, rest):
        placed = await twilio.place(PLACEMENT)
    assert (placed.sid, placed.status, placed.state) == (CALL, "queued", "dialing")
    assert (placed.to, placed.from_number, placed.created_at) == (PLACEMENT.to, PLACEMENT.from_number, NOW)
    ((method, path, form, request),) = rest.asked
    assert (method, path) == ("POST", f"/2010-04-01/Accounts/{SID}/Calls.json")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert request.headers["I-Twilio-Idempotency-Token"] == "call_1"
    assert form.getall("StatusCallbackEvent") == ["initiated", "ringing", "answered", "completed"]
    assert {name: form[name] for name in form if name != "StatusCallbackEvent"} == {
        "To": PLACEMENT.to,
        "From": PLACEMENT.from_number,
        "Url": PLACEMENT.answer_url,
        "Method": "POST",
        "StatusCallback": PLACEMENT.status_url,
        "StatusCallbackMethod": "POST",
        "Timeout": "30",
        "TimeLimit": "960",
        "MachineDetection": "Enable",
        "AsyncAmd": "true",
        "AsyncAmdStatusCallback": PLACEMENT.machine_url,
        "AsyncAmdStatusCallbackMethod": "POST",
    }


@pytest.mark.parametrize("answer", [error(500), error(503), "drop", "hang", (201, "<html>", {}), {}])
async def test_a_lost_reply_to_a_creation_is_reported_as_unknown_and_never_repeated(answer: Any) -> None:
    """COM-21: a second request could ring a person twice."""
    async with carrier(answer, timeout_s=0.3) as (twilio, rest):
        with pytest.raises(OutcomeUnknown):
            await twilio.place(PLACEMENT)
        assert len(rest.asked) == 1


async def test_a_creation_that_was_never_sent_is_known_not_to_have_happened() -> None:
    twilio = TwilioCarrier(SID, TOKEN, api_url=f"http://127.0.0.1:{unused_port()}", timeout_s=1)
    with pytest.raises(CarrierDown):
        await twilio.place(PLACEMENT)
    await twilio.close()


async def test_a_refused_creation_names_the_carriers_code() -> None:
    async with carrier(error(400, 21211)) as (twilio, rest):
        with pytest.raises(CarrierRefused) as refused:
            await twilio.place(PLACEMENT)
    assert (refused.value.status, refused.value.code) == (400, 21211)
    assert len(rest.asked) == 1


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), (None, None)])
async def test_a_busy_carrier_says_when_to_come_back(header: str | None, seconds: float | None) -> None:
    headers = {"Retry-After": header} if header else {}
    async with carrier(error(429, 20429, **headers)) as (twilio, rest):
        with pytest.raises(CarrierBusy) as busy:
            await twilio.place(PLACEMENT)
    assert busy.value.retry_after == seconds
    assert len(rest.asked) == 1


async def test_the_date_form_of_retry_after_is_understood() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    async with carrier(error(429, 20429, **{"Retry-After": later})) as (twilio, _):
        with pytest.raises(CarrierBusy) as busy:
            await twilio.place(PLACEMENT)
    assert busy.value.retry_after == pytest.approx(60, abs=5)


@pytest.mark.parametrize("fault", [error(500), error(503), "drop", error(429, 20429, **{"Retry-After": "0"})])
async def test_what_may_be_asked_twice_is_asked_again(fault: Any) -> None:
    async with carrier(fault, fault, record(status="completed")) as (twilio, rest):
        await twilio.end(CALL)
        assert len(rest.asked) == 3
        assert {form["Status"] for _, _, form, _ in rest.asked} == {"completed"}


async def test_a_carrier_that_stays_down_is_reported_after_three_tries() -> None:
    async with carrier(error(503)) as (twilio, rest):
        with pytest.raises(CarrierDown):
            await twilio.get(CALL)
        assert len(rest.asked) == 3


async def test_a_long_retry_after_is_not_sat_out() -> None:
    async with carrier(error(429, 20429, **{"Retry-After": "3600"})) as (twilio, rest):
        with pytest.raises(CarrierBusy):
            await twilio.end(CALL)
        assert len(rest.asked) == 1


@pytest.mark.parametrize("answer", [error(404, 20404), error(400, 21220)])
async def test_ending_a_call_that_is_over_is_fine(answer: Any) -> None:
    async with carrier(answer) as (twilio, _):
        await twilio.end(CALL)


async def test_other_refusals_of_an_end_are_told() -> None:
    async with carrier(error(401, 20003)) as (twilio, _):
        with pytest.raises(CarrierRefused):
            await twilio.end(CALL)


async def test_a_call_is_redirected_to_new_twiml() -> None:
    async with carrier(record(status="in-progress")) as (twilio, rest):
        await twilio.redirect(CALL, "https://a/resume")
    ((_, path, form, _),) = rest.asked
    assert path == f"/2010-04-01/Accounts/{SID}/Calls/{CALL}.json"
    assert dict(form) == {"Url": "https://a/resume", "Method": "POST"}


async def test_a_call_is_read() -> None:
    answer = record(
        status="completed",
        start_time=format_datetime(NOW),
        end_time=format_datetime(NOW + timedelta(seconds=9)),
        duration="9",
        answered_by="machine_end_beep",
    )
    async with carrier(answer) as (twilio, _):
        call = await twilio.get(CALL)
    assert (call.state, call.duration_s, call.answered_by) == ("completed", 9, "machine")
    assert call.ended_at == NOW + timedelta(seconds=9)


async def test_reconciliation_finds_calls_that_have_no_start_time_yet() -> None:
    """COM-21: a queued call has been created, whatever `StartTime` says."""
    page = {
        "calls": [record(sid="CA2"), record(sid="CA3", date_created=format_datetime(NOW - timedelta(hours=1)))],
        "next_page_uri": None,
        "page_size": 50,
    }
    async with carrier(page) as (twilio, rest):
        found = await twilio.list(PLACEMENT.to, NOW + timedelta(milliseconds=400))
    assert [call.sid for call in found] == ["CA2"]
    ((_, _, _, request),) = rest.asked
    assert request.query["To"] == PLACEMENT.to


async def test_a_list_that_fails_is_asked_for_again_and_then_told_as_the_carriers_fault() -> None:
    """COM-21: reconciliation must not take a failed list for an empty one, nor crash on it."""
    page = {"calls": [record(sid="CA2")], "next_page_uri": None, "page_size": 50}
    async with carrier(error(500), page) as (twilio, rest):
        assert [call.sid for call in await twilio.list(PLACEMENT.to, NOW)] == ["CA2"]
        assert len(rest.asked) == 2
    async with carrier(error(503)) as (twilio, rest):
        with pytest.raises(CarrierDown):
            await twilio.list(PLACEMENT.to, NOW)
        assert len(rest.asked) == 3
    async with carrier(error(401, 20003)) as (twilio, _):
        with pytest.raises(CarrierRefused) as refused:
            await twilio.list(PLACEMENT.to, NOW)
    assert refused.value.status == 401


async def test_fifty_dials_leave_the_loop_free() -> None:
    """Nothing blocks: while fifty creations wait for their answers, the loop goes on serving others."""
    waiting = asyncio.Semaphore(0)
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        waiting.release()
        await release.wait()
        return web.json_response(record(), status=201)

    app = web.Application()
    app.router.add_post("/{tail:.*}", slow)
    async with TestServer(app) as server:
        twilio = TwilioCarrier(SID, TOKEN, api_url=str(server.make_url("/")))
        dials = [asyncio.create_task(twilio.place(PLACEMENT)) for _ in range(50)]
        async with asyncio.timeout(20):
            for _ in dials:
                await waiting.acquire()
            release.set()
            placed = await asyncio.gather(*dials)
        await twilio.close()
    assert len(placed) == 50


def test_carrier_states_are_ours() -> None:
    """COM-13."""
    assert state_of("no-answer") == "no_answer"
    assert state_of("in-progress") == "in_progress"
    with pytest.raises(ValueError, match="exploded"):
        state_of("exploded")


@pytest.mark.parametrize(
    ("value", "who"),
    [
        ("human", "human"),
        ("machine_start", "machine"),
        ("machine_end_silence", "machine"),
        ("machine_end_other", "machine"),
        ("fax", "fax"),
        ("unknown", "unknown"),
        ("", "unknown"),
        ("robot", "unknown"),
    ],
)
def test_who_answered_is_told_in_four_words(value: str, who: str) -> None:
    assert answered_by(value) == who
