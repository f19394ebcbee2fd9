"""Several providers as one model: the first that speaks is heard, and a failed or hung one is not waited for.

What happens to one request:

1. The first provider in order whose breaker is closed is asked.
2. If it fails, the next is asked at once. If it is merely silent, the next is asked beside it at the *hedge
point*:
   the time its first token usually takes, plus `Tempo.margin`. Whoever speaks first is heard; the others
   are cancelled.
3. From then on the reply is that provider's alone. If it dies or stalls in the middle, the words stand as
said and the
   reply ends with `finish="cut"`; its breaker opens, so that the next turn goes elsewhere. Nothing is ever
   said twice.
4. A provider whose breaker is *due* is tried beside the one that answers; its first token only closes its
breaker. So it
   returns by itself and no caller waits to find out.
5. If nobody speaks before `Tempo.first_token`, or all have failed, `NoReply` is raised with every
provider's error.

All timers run on the injected clock and end up in one inbox, which a single coroutine reads: no two
decisions race.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from bots.models.breaker import EXPECTED_S, Breaker, Health
from bots.models.cerebras import CerebrasModel
from bots.models.double import DoubleModel
from bots.models.openai import OpenAIModel
from bots.models.port import (
    BadReply,
    Clock,
    Delta,
    Done,
    LoopClock,
    Model,
    ModelError,
    NoReply,
    Request,
    TimedOut,
    Timer,
    Try,
    Unreachable,
)
from infra.settings import Settings, SettingsError

log = structlog.get_logger()

CLOSING_S = 0.25  # how long a cancelled stream may take to close before it is left to itself


@dataclass(frozen=True, slots=True)
class Tempo:
    """A chain's waiting times, in seconds.

    `expected` is where each provider's usual first-token time starts; it is learned from then on.
    """

    expected: float = EXPECTED_S
    margin: float = 0.08
    first_token: float = 2.0
    stall: float = 2.0
    total: float = 30.0
    cooldown: float = 5.0


class ModelChain:
    """Providers in order of preference; itself a `Model`. One per process, shared by all of its calls."""

    name = "chain"

    def __init__(self, providers: Sequence[Model], tempo: Tempo | None = None, clock: Clock | None = None) -> None:
        self.tempo = tempo or Tempo()
        self.clock = clock or LoopClock()
        self._links = [(p, Breaker(p.name, self.tempo.expected, self.tempo.cooldown)) for p in providers]

    def describe(self) -> str:
        return ", then ".join(provider.describe() for provider, _ in self._links) or "no language model"

    def status(self) -> tuple[Health, ...]:
        """Every provider's record, in order."""
        return tuple(breaker.health(self.clock.now()) for _, breaker in self._links)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Write a reply. See the module for which provider does.

        Raises:
            NoReply: nobody spoke. Nothing has been yielded then.
        """
        race = _Race(self._links, request, self.tempo, self.clock)
        try:
            async for delta in race.run():
                yield delta
        finally:
            await race.close()

    async def aclose(self) -> None:
        for provider, _ in self._links:
            await provider.aclose()


def build_model(settings: Settings) -> ModelChain:
    """The chain that the settings ask for: Cerebras, then the OpenAI-compatible endpoint, each if it has a
    key.

    Raises:
        SettingsError: no provider has a key.
    """
    if settings.speech.brain == "double":
        return ModelChain([DoubleModel()])
    providers: list[Model] = []
    for section, kind in ((settings.cerebras, CerebrasModel), (settings.openai, OpenAIModel)):
        if key := section.api_key.get_secret_value():
            providers.append(kind(url=section.url, key=key, model=section.model))
    if not providers:
        raise SettingsError("A model brain needs CEREBRAS_API_KEY or OPENAI_API_KEY; set one or SPEECH_BRAIN=scripted.")
    return ModelChain(providers)


@dataclass(eq=False, slots=True)
class _Attempt:
    provider: Model
    breaker: Breaker
    probe: bool
    started: float
    task: asyncio.Task[None] | None = None
    timers: list[Timer] = field(default_factory=list)
    over: bool = False

    def stop(self) -> None:
        """Take no more from it and have its connection closed."""
        self.over = True
        if self.task is not None:
            self.task.cancel()
        for timer in self.timers:
            timer.cancel()
        if self.probe:
            self.breaker.end_probe()


_Event = tuple[
    Literal["delta", "failed", "hedge", "late", "stalled", "total"],
    _Attempt | None,
    Delta | ModelError | None,
]


class _Race:
    """One request on its way through the chain."""

    def __init__(self, links: Sequence[tuple[Model, Breaker]], request: Request, tempo: Tempo, clock: Clock) -> None:
        self._request = request
        self._tempo = tempo
        self._clock = clock
        self._begun = clock.now()
        self._inbox: deque[_Event] = deque()
        self._mail = asyncio.Event()
        states = [(link, link[1].state(self._begun)) for link in links]
        self._ready = deque(link for link, state in states if state == "closed")
        self._last_resort = deque(link for link, state in states if state == "open")
        self._due = [link for link, state in states if state == "due"]
        self._attempts: list[_Attempt] = []
        self._tries: dict[_Attempt, Try] = {}
        self._errors: list[ModelError] = []
        self._winner: _Attempt | None = None
        self._first_token = 0.0
        self._heard_at = 0.0
        self._timers: list[Timer] = []

    async def run(self) -> AsyncGenerator[Delta, None]:
        """The reply of whoever wins."""
        self._arm(self._tempo.total, "total")
        self._arm(self._tempo.first_token, "late")
        if self._ready:
            for provider, breaker in self._due:
                self._launch(provider, breaker, probe=True)
        else:
            self._ready.extend(self._due)  # with nobody else to ask, the trial is the request itself
        self._next()
        while True:
            while not self._inbox:
                self._mail.clear()
                await self._mail.wait()
            kind, attempt, what = self._inbox.popleft()
            if attempt is not None and attempt.over:
                continue
            delta = self._judge(kind, attempt, what)
            if delta is not None:
                yield delta
            if isinstance(delta, Done):
                return

    async def close(self) -> None:
        """Stop everything that still runs, and wait a moment until the connections are closed."""
        now = self._clock.now()
        for timer in self._timers:
            timer.cancel()
        for attempt in self._attempts:
            if not attempt.over:
                if attempt.probe and now - attempt.started >= attempt.breaker.expected + self._tempo.margin:
                    self._strike(attempt, TimedOut("silent beside another provider", provider=attempt.provider.name))
                attempt.stop()
        running = [a.task for a in self._attempts if a.task is not None and not a.task.done()]
        if running:
            await asyncio.wait(running, timeout=CLOSING_S)

    # -- decisions: each takes one event and returns what the caller gets for it

    def _judge(self, kind: str, attempt: _Attempt | None, what: Delta | ModelError | None) -> Delta | None:
        if kind == "hedge":
            self._next(hedge=True)
            return None
        if kind in {"late", "total"}:
            return self._out_of_time(kind)
        assert attempt is not None
        if kind == "stalled":
            return self._check_stall(attempt)
        if isinstance(what, ModelError):
            return self._failed(attempt, what)
        assert what is not None
        return self._heard(attempt, what)

    def _heard(self, attempt: _Attempt, delta: Delta) -> Delta | None:
        now = self._clock.now()
        if attempt is not self._winner:
            if isinstance(delta, Done):
                return self._failed(attempt, BadReply("the reply is empty", provider=attempt.provider.name))
            attempt.breaker.answered(now - attempt.started)
            if attempt.probe:
                self._tries[attempt] = self._told(attempt, "probed")
                self._ready.append((attempt.provider, attempt.breaker))
                attempt.stop()
                return None
            self._win(attempt, now)
        self._heard_at = now
        return self._finished(delta, now) if isinstance(delta, Done) else delta

    def _win(self, attempt: _Attempt, now: float) -> None:
        self._winner = attempt
        self._first_token = now
        self._tries[attempt] = self._told(attempt, "won")
        for other in self._attempts:
            if other is attempt or other.probe or other.over:
                continue
            if now - other.started >= other.breaker.expected + self._tempo.margin:
                self._strike(other, TimedOut("overtaken at its hedge point", provider=other.provider.name))
            else:
                self._tries[other] = self._told(other, "lost")
            other.stop()
        for timer in attempt.timers:
            timer.cancel()
        self._arm(self._tempo.stall, "stalled", attempt)

    def _failed(self, attempt: _Attempt, error: ModelError) -> Delta | None:
        now = self._clock.now()
        if attempt is self._winner:
            attempt.breaker.broke_off(error, now)
            attempt.stop()
            return self._finished(Done("cut", error=f"{error.kind}: {error}"), now)
        self._strike(attempt, error)
        attempt.stop()
        if attempt.probe:
            return None
        self._errors.append(error)
        self._next()
        return None

    def _out_of_time(self, kind: str) -> Delta | None:
        now = self._clock.now()
        if self._winner is not None:
            if kind == "late":
                return None
            self._winner.stop()  # it spoke all the time: too long, but no fault
            return self._finished(Done("length", error="timed_out: the reply took too long"), now)
        for attempt in self._attempts:
            if not attempt.over and not attempt.probe:
                error = TimedOut("no first token", provider=attempt.provider.name)
                self._errors.append(error)
                self._strike(attempt, error)
                attempt.stop()
        raise NoReply(tuple(self._errors), tuple(self._tries.values()))

    def _check_stall(self, attempt: _Attempt) -> Delta | None:
        left = self._heard_at + self._tempo.stall - self._clock.now()
        if left <= 0:
            return self._failed(attempt, TimedOut("stalled in the middle", provider=attempt.provider.name))
        self._arm(left, "stalled", attempt)
        return None

    def _finished(self, done: Done, now: float) -> Done:
        assert self._winner is not None
        tries = tuple(sorted(self._tries.values(), key=lambda told: told.started_ms))
        done = Done(
            done.finish,
            done.usage,
            self._winner.provider.name,
            self._ms(self._first_token),
            self._ms(now),
            tries,
            done.error,
        )
        if len(tries) > 1 or done.error:
            log.warning(
                "model_fallback" if not done.error else "model_cut",
                provider=done.provider,
                first_token_ms=done.first_token_ms,
                error=done.error,
                tries=[f"{t.provider} {t.outcome} {t.error}".strip() for t in done.tries],
            )
        return done

    # -- mechanics

    def _next(self, hedge: bool = False) -> None:
        if not self._ready and not hedge and not any(not a.over and not a.probe for a in self._attempts):
            self._ready, self._last_resort = self._last_resort, deque()
            if not self._ready:
                raise NoReply(tuple(self._errors), tuple(self._tries.values()))
        if self._ready:
            self._launch(*self._ready.popleft())

    def _launch(self, provider: Model, breaker: Breaker, probe: bool = False) -> None:
        attempt = _Attempt(provider, breaker, probe, self._clock.now())
        if probe:
            breaker.begin_probe()
        else:
            self._arm(breaker.expected + self._tempo.margin, "hedge", attempt)
        self._attempts.append(attempt)
        attempt.task = asyncio.create_task(self._pump(attempt), name=f"model-{provider.name}")

    async def _pump(self, attempt: _Attempt) -> None:
        stream = attempt.provider.stream(self._request)
        try:
            async for delta in stream:
                self._post("delta", attempt, delta)
            self._post("failed", attempt, BadReply("the reply has no end", provider=attempt.provider.name))
        except ModelError as error:
            error.provider = error.provider or attempt.provider.name
            self._post("failed", attempt, error)
        except Exception as error:
            log.exception("model_adapter_broke", provider=attempt.provider.name)
            fault = Unreachable(f"adapter fault: {error!r}", provider=attempt.provider.name)
            fault.__cause__ = error
            self._post("failed", attempt, fault)
        finally:
            await stream.aclose()

    def _post(
        self,
        kind: Literal["delta", "failed", "hedge", "late", "stalled", "total"],
        attempt: _Attempt | None = None,
        what: Delta | ModelError | None = None,
    ) -> None:
        self._inbox.append((kind, attempt, what))
        self._mail.set()

    def _arm(
        self,
        seconds: float,
        kind: Literal["hedge", "late", "stalled", "total"],
        attempt: _Attempt | None = None,
    ) -> None:
        timer = self._clock.call_later(seconds, lambda: self._post(kind, attempt))
        (self._timers if attempt is None else attempt.timers).append(timer)

    def _strike(self, attempt: _Attempt, error: ModelError) -> None:
        attempt.breaker.failed(error, self._clock.now())
        self._tries[attempt] = self._told(attempt, "failed", f"{error.kind}: {error}")

    def _told(self, attempt: _Attempt, outcome: Literal["won", "lost", "failed", "probed"], error: str = "") -> Try:
        return Try(attempt.provider.name, self._ms(attempt.started), outcome, error)

    def _ms(self, at: float) -> float:
        return round((at - self._begun) * 1000, 2)
