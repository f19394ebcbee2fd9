"""The production clients and their chain against a server that speaks the true wire format, with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

import pytest
import pytest_asyncio

from bots.models.cerebras import CerebrasModel
from bots.models.chain import ModelChain, Tempo, build_model
from bots.models.openai import OpenAIModel
from bots.models.port import (
    BadReply,
    Delta,
    Denied,
    Done,
    Message,
    Model,
    ModelError,
    NoReply,
    Overloaded,
    RateLimited,
    Rejected,
    Request,
    Text,
    Tool,
    ToolCall,
    Unreachable,
    Usage,
)
from infra.settings import SettingsError, load
from tests.doubles.models import Fault, ModelDouble

ASK = Request((Message("system", "Be brief."), Message("user", "hello")))
Pair: TypeAlias = tuple[ModelDouble, Model]


@pytest_asyncio.fixture(params=["cerebras", "openai"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A double and one of our clients that reaches it by its address alone."""
    async with ModelDouble("Hello there, how are you?") as double:
        model: Model
        if request.param == "cerebras":
            model = CerebrasModel(url=double.url, key="k", model="m")
        else:
            model = OpenAIModel(url=f"{double.url}/v1", key="k", model="m")
        yield double, model
        await model.aclose()


async def _collect(model: Model, request: Request = ASK) -> list[Delta]:
    async with aclosing(model.stream(request)) as deltas:
        return [delta async for delta in deltas]


def _text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))


async def test_a_client_streams_a_reply_with_its_usage(pair: Pair) -> None:
    """COM-82, ASP-013."""
    double, model = pair
    deltas = await _collect(model)
    assert _text(deltas) == "Hello there, how are you?"
    assert len(deltas) == 6
    assert deltas[-1] == Done("stop", Usage(11, 5))
    assert double.requests[0]["model"] == "m"
    assert double.requests[0]["messages"][1] == {"role": "user", "content": "hello"}
    assert double.keys == ["Bearer k"]


async def test_a_client_delivers_tool_calls_whole(pair: Pair) -> None:
    """COM-82."""
    double, model = pair
    double.tool_calls = [("book", '{"day": "saturday"}'), ("note", "{}")]
    tools = (Tool("book", "Book a call.", {"type": "object", "properties": {"day": {"type": "string"}}}),)
    deltas = await _collect(model, Request(ASK.messages, tools))
    assert deltas[-3:-1] == [
        ToolCall("call_0", "book", '{"day": "saturday"}'),
        ToolCall("call_1", "note", "{}"),
    ]
    assert double.requests[0]["tools"][0]["function"]["name"] == "book"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("503", Overloaded),
        ("500", Overloaded),
        ("429", RateLimited),
        ("401", Denied),
        ("400", Rejected),
        ("disconnect", Unreachable),
        ("disconnect_midway", Unreachable),
        ("malformed", BadReply),
        ("error_midway", Overloaded),
    ],
)
async def test_a_client_types_every_fault_and_never_retries(pair: Pair, fault: Fault, error: type[ModelError]) -> None:
    """COM-82: retries are off, so that the chain decides."""
    double, model = pair
    double.fault = fault
    with pytest.raises(error) as caught:
        await _collect(model)
    assert caught.value.provider == model.name
    assert len(double.requests) == 1
    double.fault = "none"
    assert _text(await _collect(model)) == "Hello there, how are you?"


async def test_a_refused_connection_is_unreachable(pair: Pair) -> None:
    double, model = pair
    await double.stop()
    with pytest.raises(Unreachable):
        await _collect(model)


async def test_hanging_up_closes_the_providers_stream_at_once(pair: Pair) -> None:
    """CMB-28: barge-in stops the model, not just our reading of it."""
    double, model = pair
    double.fault = "hang_midway"
    async with aclosing(model.stream(ASK)) as deltas:
        assert await anext(deltas) == Text("Hello")
    async with asyncio.timeout(2):
        await double.hung_up.wait()


async def test_cancelling_a_client_that_waits_closes_its_connection(pair: Pair) -> None:
    double, model = pair
    double.fault = "hang"
    task = asyncio.create_task(_collect(model))
    await double.asked.wait()
    task.cancel()
    async with asyncio.timeout(2):
        await double.hung_up.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


FAULTS: list[Fault] = ["503", "500", "429", "401", "hang", "disconnect", "malformed", "empty"]


async def _chain(first: ModelDouble, second: ModelDouble, tempo: Tempo) -> ModelChain:
    providers: list[Model] = [
        CerebrasModel(url=first.url, key="k", model="m"),
        OpenAIModel(url=f"{second.url}/v1", key="k", model="m"),
    ]
    return ModelChain(providers, tempo)


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_fallback_answers_whatever_the_first_provider_does(fault: Fault) -> None:
    """CMB-25, COM-17, ASP-028."""
    reply = "One." if fault == "malformed" else "Mine."
    async with ModelDouble(reply, fault) as first, ModelDouble("Yours, fully.") as second:
        chain = await _chain(first, second, Tempo(expected=0.05))
        deltas = await _collect(chain)
        done = deltas[-1]
        assert isinstance(done, Done)
        assert (_text(deltas), done.provider) == ("Yours, fully.", "openai")
        assert done.tries[0].outcome == "failed"
        assert done.first_token_ms > 0
        await chain.aclose()


async def test_the_first_provider_is_used_again_once_it_is_well() -> None:
    """CMB-25, COM-17: it returns by itself, and no caller waits for it while it is down."""
    async with ModelDouble("Mine.", "503") as first, ModelDouble("Yours.") as second:
        chain = await _chain(first, second, Tempo(expected=0.5, cooldown=0.0))
        assert [_text(await _collect(chain)) for _ in range(3)] == ["Yours."] * 3
        first.fault = "none"
        second.gated = True
        probed = asyncio.create_task(_collect(chain))
        async with asyncio.timeout(5):
            while chain.status()[0].state != "closed":  # noqa: ASYNC110 - a status is pulled, never pushed
                await asyncio.sleep(0)
        second.step()
        assert _text(await probed) == "Yours."
        assert _text(await _collect(chain)) == "Mine."
        await chain.aclose()


async def test_a_hung_loser_is_hung_up_on() -> None:
    async with ModelDouble("Mine.", "hang") as first, ModelDouble("Yours.") as second:
        chain = await _chain(first, second, Tempo(expected=0.05))
        await _collect(chain)
        async with asyncio.timeout(2):
            await first.hung_up.wait()
        await chain.aclose()


async def test_many_calls_share_one_chain_without_mixing_words() -> None:
    async with ModelDouble("Mine " * 10, "none") as first, ModelDouble("Yours " * 10) as second:
        first.faults.extend(["503", "none", "429", "none", "hang_midway"])
        chain = await _chain(first, second, Tempo(expected=0.5, stall=0.3))
        replies = await asyncio.gather(*(_collect(chain) for _ in range(20)))
        for deltas in replies:
            assert len(set(_text(deltas).split())) == 1
        await chain.aclose()


async def test_the_settings_build_the_chain_and_one_address_redirects_each_client() -> None:
    """CMB-25: any compatible endpoint by configuration."""
    async with ModelDouble("Mine.", "503") as first, ModelDouble("Yours.") as second:
        settings = load(
            environ={
                "CEREBRAS_API_KEY": "a",
                "CEREBRAS_URL": first.url,
                "OPENAI_API_KEY": "b",
                "OPENAI_URL": f"{second.url}/v1",
            }
        )
        chain = build_model(settings)
        assert _text(await _collect(chain)) == "Yours."
        assert first.keys == ["Bearer a"]
        assert second.keys == ["Bearer b"]
        assert "cerebras gpt-oss-120b" in chain.describe()
        await chain.aclose()
    chain = build_model(settings)
    with pytest.raises(NoReply, match=r"cerebras: unreachable.*openai: unreachable"):
        await _collect(chain)
    await chain.aclose()


async def test_the_stand_in_answers_in_numbered_lines_and_says_what_it_is() -> None:
    chain = build_model(load(environ={"SPEECH_BRAIN": "double"}))
    assert "stand-in" in chain.describe()
    assert "number 1" in _text(await _collect(chain))
    with pytest.raises(SettingsError, match="CEREBRAS_API_KEY"):
        build_model(load(environ={}))
