"""The REST side, driven by the real `twilio` SDK, and the webhooks of calls that the server places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from transports.simulator import network, parrot
from transports.simulator.faults import parse
from transports.simulator.parrot import Parrot

TO, FROM = "+15550123456", "+15550100000"


class Redirected(TwilioHttpClient):  # type: ignore[misc]
    """The SDK's own client, pointed elsewhere."""

    def __init__(self, base: str) -> None:
        super().__init__(pool_connections=False, timeout=5)
        self._base = base

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:
        return super().request(method, url.replace("https://api.twilio.com", self._base), *args, **kwargs)


@pytest.fixture
async def bot() -> AsyncIterator[Parrot]:
    async with parrot.serving() as served:
        yield served


@pytest.fixture
async def net() -> AsyncIterator[network.Network]:
    async with network.serving(network.Config(answerer="silent")) as served:
        yield served


@pytest.fixture
def client(net: network.Network) -> Client:
    return Client(net.config.account_sid, net.config.auth_token, http_client=Redirected(net.url))


async def off_loop(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(work, *args, **kwargs)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # a state of the server under test
            await asyncio.sleep(0.02)


def place(client: Client, bot: Parrot, **more: Any) -> Any:
    return client.calls.create(
        to=TO,
        from_=FROM,
        url=bot.url + "/voice",
        status_callback=bot.url + "/status",
        status_callback_event=["initiated", "ringing", "answered", "completed"],
        **more,
    )


async def test_the_sdk_places_fetches_and_ends_a_call(net: network.Network, client: Client, bot: Parrot) -> None:
    call = await off_loop(place, client, bot)
    assert call.status in ("queued", "ringing")
    assert call.direction == "outbound-api"
    await until(lambda: bool(bot.sockets))
    assert (await off_loop(client.calls(call.sid).fetch)).status == "in-progress"
    ended = await off_loop(client.calls(call.sid).update, status="completed")
    assert ended.sid == call.sid
    await until(lambda: net.calls[call.sid].over)
    over = await off_loop(client.calls(call.sid).fetch)
    assert over.status == "completed"
    assert over.start_time is not None
    assert over.end_time >= over.start_time
    assert await off_loop(client.calls(call.sid).delete)


async def test_status_callbacks_come_in_order_and_numbered(net: network.Network, client: Client, bot: Parrot) -> None:
    bot.manners.voice = "<Response><Hangup/></Response>"
    call = await off_loop(place, client, bot)
    task = net.calls[call.sid].task
    assert task
    await task
    callbacks = [request.params for request in bot.requests if request.path == "/status"]
    assert [each["CallStatus"] for each in callbacks] == ["initiated", "ringing", "in-progress", "completed"]
    assert [each["SequenceNumber"] for each in callbacks] == ["0", "1", "2", "3"]
    assert all(each["CallSid"] == call.sid and each["Timestamp"] for each in callbacks)
    assert "CallDuration" in callbacks[-1]
    assert "CallDuration" not in callbacks[0]


@pytest.mark.parametrize("outcome", ["busy", "no-answer", "failed"])
async def test_a_number_can_end_a_call_unanswered(
    net: network.Network, client: Client, bot: Parrot, outcome: str
) -> None:
    net.numbers[TO] = outcome
    call = await off_loop(place, client, bot, timeout=1)
    task = net.calls[call.sid].task
    assert task
    await task
    assert (await off_loop(client.calls(call.sid).fetch)).status == outcome
    assert not [request for request in bot.requests if request.path == "/voice"]
    assert bot.requests[-1].params["CallStatus"] == outcome


async def test_a_ringing_call_can_be_cancelled(net: network.Network, client: Client, bot: Parrot) -> None:
    net.numbers[TO] = "no-answer"
    call = await off_loop(place, client, bot)
    await until(lambda: net.calls[call.sid].status == "ringing")
    await off_loop(client.calls(call.sid).update, status="canceled")
    await until(lambda: net.calls[call.sid].over)
    assert net.calls[call.sid].status == "canceled"


async def test_a_live_call_can_be_led_by_another_document(net: network.Network, client: Client, bot: Parrot) -> None:
    call = await off_loop(place, client, bot)
    await until(lambda: bool(bot.sockets))
    with pytest.raises(TwilioRestException) as refused:
        await off_loop(client.calls(call.sid).update, status="canceled")
    assert refused.value.code == 21220
    await off_loop(client.calls(call.sid).update, twiml="<Response><Hangup/></Response>")
    await until(lambda: net.calls[call.sid].over)
    assert bot.messages[-1]["event"] == "stop"
    with pytest.raises(TwilioRestException) as refused:
        await off_loop(client.calls(call.sid).update, url=bot.url + "/voice")
    assert refused.value.code == 21220


async def test_a_machine_is_told_of_asynchronously(net: network.Network, client: Client, bot: Parrot) -> None:
    net.numbers[TO] = "voicemail"
    call = await off_loop(
        place,
        client,
        bot,
        machine_detection="Enable",
        async_amd="true",
        async_amd_status_callback=bot.url + "/amd",
    )
    await until(lambda: any(request.path == "/amd" for request in bot.requests))
    (amd,) = [request.params for request in bot.requests if request.path == "/amd"]
    assert (amd["CallSid"], amd["AnsweredBy"]) == (call.sid, "machine_start")
    assert (await off_loop(client.calls(call.sid).fetch)).answered_by == "machine_start"


async def test_calls_are_listed_by_number_state_time_and_page(
    net: network.Network, client: Client, bot: Parrot
) -> None:
    bot.manners.voice = "<Response><Hangup/></Response>"
    for _ in range(3):
        await off_loop(place, client, bot)
    await until(lambda: all(call.over for call in net.calls.values()))
    assert len(await off_loop(client.calls.list, page_size=2)) == 3
    assert len(await off_loop(client.calls.list, limit=1)) == 1
    assert len(await off_loop(client.calls.list, to=TO, status="completed")) == 3
    assert await off_loop(client.calls.list, to="+15550000001") == []
    assert await off_loop(client.calls.list, status="in-progress") == []
    first = next(iter(net.calls.values())).started_at
    assert first is not None
    assert len(await off_loop(client.calls.list, start_time_after=first)) == 3
    assert await off_loop(client.calls.list, start_time_before=first.replace(year=2001)) == []
    assert len(await off_loop(client.calls.list, start_time=first.date())) == 3


@pytest.mark.parametrize(
    ("change", "code"), [({"to": "12"}, 21211), ({"from_": "x"}, 21212), ({"url": "ftp://x"}, 21205)]
)
async def test_a_wrong_request_is_refused_with_twilios_number(
    client: Client, bot: Parrot, change: dict[str, str], code: int
) -> None:
    wanted = {"to": TO, "from_": FROM, "url": bot.url + "/voice"} | change
    with pytest.raises(TwilioRestException) as refused:
        await off_loop(client.calls.create, **wanted)
    assert (refused.value.status, refused.value.code) == (400, code)


async def test_strangers_and_unknown_calls_are_refused(net: network.Network, client: Client) -> None:
    with pytest.raises(TwilioRestException) as refused:
        await off_loop(client.calls("CA" + "0" * 32).fetch)
    assert (refused.value.status, refused.value.code) == (404, 20404)
    stranger = Client(net.config.account_sid, "wrong", http_client=Redirected(net.url))
    with pytest.raises(TwilioRestException) as refused:
        await off_loop(stranger.calls("CA" + "0" * 32).fetch)
    assert (refused.value.status, refused.value.code) == (401, 20003)


async def test_too_many_requests_and_server_errors_carry_nothing_out(
    net: network.Network, client: Client, bot: Parrot
) -> None:
    for kind, status in (("rest_too_many", 429), ("rest_error", 503)):
        net.inflict(parse({"kind": kind, "times": 1, "match": "create", "status": 503}))
        with pytest.raises(TwilioRestException) as refused:
            await off_loop(place, client, bot)
        assert refused.value.status == status
    assert net.calls == {}


async def test_a_lost_reply_leaves_a_call_that_can_be_found(net: network.Network, client: Client, bot: Parrot) -> None:
    net.inflict(parse({"kind": "rest_lost_reply", "times": 1, "match": "create"}))
    with pytest.raises(Exception, match="Connection"):
        await off_loop(place, client, bot)
    (found,) = await off_loop(client.calls.list, to=TO)
    assert found.sid in net.calls


async def test_callbacks_come_late_twice_out_of_order_or_never(
    net: network.Network, client: Client, bot: Parrot
) -> None:
    bot.manners.voice = "<Response><Hangup/></Response>"
    for fault in (
        {"kind": "webhook_reorder", "match": "initiated"},
        {"kind": "webhook_duplicate", "match": "ringing"},
        {"kind": "webhook_drop", "match": "answered"},
        {"kind": "webhook_late", "match": "completed", "ms": 200},
    ):
        net.inflict(parse(fault))
    call = await off_loop(place, client, bot)
    task = net.calls[call.sid].task
    assert task
    await task
    callbacks = [request.params["SequenceNumber"] for request in bot.requests if request.path == "/status"]
    assert callbacks == ["1", "1", "0", "3"]
    assert [hook["error"] for hook in net.calls[call.sid].record()["webhooks"]].count("dropped") == 1
