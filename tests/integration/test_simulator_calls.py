"""Whole calls over real sockets, with the small bot the simulator brings along at the far end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from twilio.request_validator import RequestValidator

from transports.simulator import network, parrot, persona
from transports.simulator.calls import Call
from transports.simulator.faults import parse
from transports.simulator.parrot import Manners, Parrot
from transports.simulator.persona import Persona
from transports.simulator.speech import Speech
from transports.simulator.voice import VoiceStyle

NUMBER, CALLER = "+15550100000", "+15550199000"


@pytest.fixture
async def bot() -> AsyncIterator[Parrot]:
    async with parrot.serving() as served:
        yield served


@pytest.fixture
async def net(bot: Parrot) -> AsyncIterator[network.Network]:
    async with network.serving(network.Config(voice_url=bot.url + "/voice", status_url=bot.url + "/status")) as served:
        yield served


def person(*steps: dict[str, Any], **manner: Any) -> Persona:
    """A caller with short pauses."""
    quick = {"reply_after_ms": 60, "bot_done_ms": 420, "patience_ms": 4000}
    return persona.parse({"steps": steps, "manner": quick | manner})


async def ended(call: Call) -> dict[str, Any]:
    """The record of a call once it is over."""
    assert call.task
    async with asyncio.timeout(20):
        await call.task
    return call.record()


def said(record: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(each["text"], each["cut"]) for each in record["utterances"] if each["end_ms"] is not None]


async def test_a_caller_and_a_bot_talk_in_turn_until_the_bot_hangs_up(net: network.Network, bot: Parrot) -> None:
    caller = person({"wait": True}, {"say": "One."}, {"wait": True}, {"say": "Two."}, {"wait": True}, {"say": "Three."})
    record = await ended(net.dial(NUMBER, CALLER, caller))
    assert record["status"] == "completed"
    assert record["error"] is None
    assert said(record) == [("One.", False), ("Two.", False), ("Three.", False)]
    assert [turn["voice_to_voice_ms"] is not None for turn in record["turns"]] == [True, True, False]
    assert len(record["bot_spurts"]) == 3
    assert record["answer_to_first_sound_ms"] >= 0
    assert record["protocol_errors"] == []
    assert [hook["kind"] for hook in record["webhooks"]] == ["voice", "action", "status-completed"]
    start = bot.messages[1]
    assert bot.messages[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start["start"]["callSid"] == record["sid"]
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    assert [each["mark"]["name"] for each in bot.messages if each["event"] == "mark"] == [
        "first",
        "answer-1",
        "answer-2",
    ]


async def test_every_webhook_and_the_media_upgrade_bear_valid_signatures(net: network.Network, bot: Parrot) -> None:
    bot.manners.answers = 1
    caller = person({"wait": True}, {"say": "One."}, {"wait": True}, {"say": "Two."})
    await ended(net.dial(NUMBER, CALLER, caller))
    validator = RequestValidator(net.config.auth_token)
    assert [request.path for request in bot.requests] == ["/voice", "/media", "/action", "/status"]
    for request in bot.requests:
        url = request.url.replace("http://", "ws://") if request.path == "/media" else request.url
        assert validator.validate(url, request.params, request.signature), request
    action, status = bot.requests[2].params, bot.requests[3].params
    assert action["StreamSid"] == bot.messages[1]["streamSid"]
    assert action["CallStatus"] == "in-progress"
    assert status["CallStatus"] == "completed"
    assert int(status["CallDuration"]) >= 1


async def test_frames_to_the_bot_keep_time_and_count(net: network.Network, bot: Parrot) -> None:
    frames: list[dict[str, Any]] = []
    bot.on_media = frames.append
    await ended(net.dial(NUMBER, CALLER, person({"pause": 900}, {"hang_up": True})))
    chunks = [int(frame["media"]["chunk"]) for frame in frames]
    assert chunks == list(range(1, len(frames) + 1))
    assert 40 <= len(frames) <= 52
    times = [int(frame["media"]["timestamp"]) for frame in frames]
    assert times == sorted(times)
    assert bot.messages[-1]["event"] == "stop"


async def test_interrupting_the_bot_measures_its_clear_and_its_silence(net: network.Network, bot: Parrot) -> None:
    bot.manners.greeting = parrot.tone(4.0)
    bot.manners.paced = False
    record = await ended(
        net.dial(NUMBER, CALLER, person({"interrupt": "Wait please.", "after": 300}, {"wait": True}, {"hang_up": True}))
    )
    (barge_in,) = record["barge_ins"]
    assert 0 <= barge_in["clear_after_ms"] < 500
    assert barge_in["silence_after_ms"] <= barge_in["clear_after_ms"] + 40
    assert record["bot_spurts"][0]["end_ms"] - record["bot_spurts"][0]["start_ms"] < 1500


async def test_keys_reach_the_bot(net: network.Network, bot: Parrot) -> None:
    await ended(net.dial(NUMBER, CALLER, person({"pause": 100}, {"dtmf": "4#"}, {"pause": 100}, {"hang_up": True})))
    assert [each["dtmf"]["digit"] for each in bot.messages if each["event"] == "dtmf"] == ["4", "#"]


@pytest.mark.parametrize("mode", ["fin", "rst", "close"])
async def test_a_dropped_stream_brings_the_call_back_through_its_action(
    net: network.Network, bot: Parrot, mode: str
) -> None:
    """However the socket ends, the action is asked and the call goes on over a new stream."""
    net.inflict(parse({"kind": "stream_drop", "ms": 800, "mode": mode, "times": 1}))
    bot.manners.answers = 1
    caller = person({"wait": True}, {"say": "One."}, {"wait": True}, {"say": "Two."})
    record = await ended(net.dial(NUMBER, CALLER, caller))
    assert record["status"] == "completed"
    (drop,) = [each for each in record["drops"] if each["resumed"]]
    assert drop["end"] == mode
    assert drop["sound_after_ms"] is not None
    assert len(record["streams"]) == 2
    assert [hook["kind"] for hook in record["webhooks"]].count("action") == 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def phrases() -> dict[str, bytes]:
    """What a bot may say when it is back, in its own voice."""
    speech = Speech()
    spoken = {}
    for name, text in (
        ("again", "Sorry, the line dropped for a moment. Could you say that again?"),
        ("on", "Sorry, the line dropped for a moment."),
    ):
        spoken[name] = b"".join((await speech.say(text, VoiceStyle("en-us+f3", 165, 60))).frames)
    await speech.close()
    return spoken


async def drop_while_speaking(net: network.Network, bot: Parrot, resume: bytes) -> dict[str, Any]:
    bot.manners.resume, bot.manners.answers = resume, 2
    caller = person(
        {"wait": True}, {"say": "I would like to go hiking on Saturday."}, {"wait": True}, {"say": "Thank you."}
    )
    call = net.dial(NUMBER, CALLER, caller)
    async with asyncio.timeout(10):
        while not call.line.speaking:  # noqa: ASYNC110  # real audio, real time
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert net.inflict(parse({"kind": "stream_drop", "mode": "rst", "call": call.sid})) == 1
    async with asyncio.timeout(20):
        while "Thank you." not in [text for text, cut in said(call.record()) if not cut]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    call.end()
    return await ended(call)


async def test_a_caller_cut_off_says_the_line_again_when_asked(
    net: network.Network, bot: Parrot, phrases: dict[str, bytes]
) -> None:
    record = await drop_while_speaking(net, bot, phrases["again"])
    line = "I would like to go hiking on Saturday."
    assert said(record)[:3] == [(line, True), (line, False), ("Thank you.", False)]
    assert any(note["event"] == "understood" and "say that again" in note["text"] for note in record["caller"])


async def test_a_caller_cut_off_goes_on_when_not_asked(
    net: network.Network, bot: Parrot, phrases: dict[str, bytes]
) -> None:
    record = await drop_while_speaking(net, bot, phrases["on"])
    assert said(record)[:2] == [("I would like to go hiking on Saturday.", True), ("Thank you.", False)]


async def test_what_does_not_fit_the_grammar_is_not_understood() -> None:
    speech = Speech()
    try:
        style = VoiceStyle("en-us+f3", 165, 60)
        expected = persona.load("friend").grammar
        for text, heard in (
            ("Thank you. How was your day today?", "thank you how was your day today"),
            ("Quartz crystals vibrate.", ""),  # eSpeak hisses differently each time; longer ones are now and then heard
        ):
            clip = await speech.say(text, style)
            assert await speech.understand(b"".join(clip.frames), expected) == heard
    finally:
        await speech.close()


async def test_an_expected_phrase_chooses_the_branch(
    net: network.Network, bot: Parrot, phrases: dict[str, bytes]
) -> None:
    bot.manners.greeting = phrases["again"]
    caller = person(
        {"expect": ["could you say that again"], "then": "yes", "otherwise": "no"},
        {"label": "no", "dtmf": "0"},
        {"label": "yes", "dtmf": "1"},
        {"hang_up": True},
    )
    await ended(net.dial(NUMBER, CALLER, caller))
    assert [each["dtmf"]["digit"] for each in bot.messages if each["event"] == "dtmf"] == ["1"]


async def test_a_half_open_line_neither_answers_nor_closes(net: network.Network, bot: Parrot) -> None:
    frames: list[dict[str, Any]] = []
    bot.on_media = frames.append
    net.inflict(parse({"kind": "stream_half_open", "ms": 200}))
    call = net.dial(NUMBER, CALLER, person())
    await asyncio.sleep(1.0)
    assert len(frames) < 20
    assert not bot.sockets[0].closed
    await bot.sockets[0].close()
    call.end()
    assert (await ended(call))["status"] == "completed"


async def test_a_server_sees_garbage_oversized_and_wrongly_signed_input(net: network.Network, bot: Parrot) -> None:
    net.inflict(parse({"kind": "stream_bad_signature", "times": 1}))
    net.inflict(parse({"kind": "webhook_bad_signature", "times": 1, "match": "voice"}))
    net.inflict(parse({"kind": "stream_garbage", "ms": 100, "times": 1}))
    record = await ended(net.dial(NUMBER, CALLER, person({"pause": 500}, {"hang_up": True})))
    validator = RequestValidator(net.config.auth_token)
    voice, media = bot.requests[:2]
    assert not validator.validate(voice.url, voice.params, voice.signature)
    assert not validator.validate(media.url.replace("http", "ws"), {}, media.signature)
    assert record["drops"], "the parrot chokes on what is no JSON, and its socket goes"


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ("<Response><Reject/></Response>", "no-answer", None),
        ('<Response><Reject reason="busy"/></Response>', "busy", None),
        ("<Response><Hangup/></Response>", "completed", None),
        ("<Response><Pause length='0.1'/><Redirect>/gone</Redirect></Response>", "completed", 12100),
        ("<Response><Connect><Stream url='ws://127.0.0.1:9/'/></Connect></Response>", "completed", None),
        ("nonsense", "failed", 12100),
        ("<Response/>", "completed", None),
        ("<Response><Say>Hello there.</Say></Response>", "completed", None),
    ],
)
async def test_a_call_ends_as_its_document_says(
    net: network.Network, bot: Parrot, document: str, status: str, code: int | None
) -> None:
    bot.manners.voice = document
    record = await ended(net.dial(NUMBER, CALLER, person()))
    assert record["status"] == status
    assert (record["error"] or {}).get("code") == code
    assert bool(record["bot_spurts"]) == ("<Say>" in document)


async def test_a_server_that_is_away_fails_the_call(net: network.Network) -> None:
    record = await ended(net.dial(NUMBER, CALLER, person(), "http://127.0.0.1:9/voice"))
    assert (record["status"], record["error"]["code"]) == ("failed", 11200)


async def test_a_recording_is_kept_where_it_was_asked_for(bot: Parrot, tmp_path: Path) -> None:
    config = network.Config(voice_url=bot.url + "/voice", recordings=tmp_path)
    async with network.serving(config) as net:
        record = await ended(net.dial(NUMBER, CALLER, person({"pause": 500}, {"hang_up": True})))
    assert Path(record["recording"]).stat().st_size > 10_000


async def test_the_control_api_dials_shows_and_hurts(net: network.Network) -> None:
    async with aiohttp.ClientSession(net.url) as client:
        async with client.post("/simulator/dial", json={"to": NUMBER, "persona": "silent", "count": 2}) as response:
            assert response.status == 201
            first, second = (await response.json())["calls"]
        async with client.post("/simulator/faults", json={"kind": "webhook_drop", "match": "status"}) as response:
            assert (await response.json())["faults"][0]["kind"] == "webhook_drop"
        async with client.post(f"/simulator/calls/{first}/hangup") as response:
            assert response.status == 202
        await ended(net.calls[first])
        async with client.get(f"/simulator/calls/{first}") as response:
            record = await response.json()
            assert record["finished"]
            assert record["status"] in ("completed", "canceled")
        async with client.get("/simulator/calls?live=1") as response:
            assert [each["sid"] for each in (await response.json())["calls"]] == [second]
        async with client.get("/simulator/measures") as response:
            assert (await response.json())["calls"] == 2
        for wrong in ({"kind": "fire"}, {}):
            async with client.post("/simulator/faults", json=wrong) as response:
                assert response.status == 400
                assert response.content_type == "application/problem+json"
        async with client.post("/simulator/dial", json={"to": NUMBER, "persona": "nobody"}) as response:
            assert "friend" in (await response.json())["detail"]
        async with client.get("/simulator/calls/CA0") as response:
            assert response.status == 404
        async with client.post("/simulator/reset") as response:
            assert response.status == 200
        assert net.calls == {}


@pytest.mark.heavy
async def test_the_friend_has_the_whole_conversation_with_mia(net: network.Network, bot: Parrot) -> None:
    """The demo's caller against the demo's lines, from consent to goodbye."""
    lines = (
        "Hi, this is Mia, an AI companion from Ringdown. May I record this call for you?",
        "Thank you. How was your day today?",
        "That sounds tiring. Would you like to talk about work, or about the weekend?",
        "Good idea. What would you like to do, go hiking or stay at home?",
        "Hiking sounds lovely. Shall I call you on Saturday morning?",
        "Saturday morning it is. Take care. Goodbye.",
    )
    style = VoiceStyle("en-us+f3", 165, 60)
    spoken = [b"".join((await net.speech.say(line, style)).frames) for line in lines]
    bot.manners = replace(bot.manners, greeting=spoken[0], lines=tuple(spoken[1:]))
    call = net.dial(NUMBER, CALLER, persona.load("friend"))
    assert call.task
    async with asyncio.timeout(90):
        await call.task
    record = call.record()
    assert said(record) == [
        ("Yes, you may.", False),
        ("It was a long day at work.", False),
        ("Let us talk about the weekend.", False),
        ("I would like to go hiking.", False),
        ("Yes please.", False),
    ]
    assert record["status"] == "completed"
    assert Manners().answers == 2
