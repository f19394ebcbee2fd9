"""The port to language models: what is asked, what comes back piece by piece, and what can go wrong.

Chat, calls and tests use this and nothing below it. A provider is one implementation; a chain of providers
is another, so whoever speaks to one model speaks to all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import msgspec

RATE_LIMITED = 429
CLIENT_ERRORS = range(400, 500)
CREDENTIAL_STATUSES = frozenset({401, 402, 403})
OVERLOAD_STATUSES = frozenset({408, 409, 425})
QUOTA_SECONDS = 60.0
_QUOTA = ("quota", "429", "too many", "rate limit", "limit_exceeded")
_DENIED = ("401", "402", "403", "unauthorized", "invalid_api_key", "forbidden")


class ToolCall(msgspec.Struct, frozen=True):
    """The model wants a tool run. It is delivered whole; `arguments` is JSON text, unchecked."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of the conversation so far. `tool_call_id` names the call that a tool message answers."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A function the model may ask for; `parameters` is its JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class Request(msgspec.Struct, frozen=True):
    """One reply asked of a model."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    max_tokens: int = 400
    temperature: float = 0.7


class Usage(msgspec.Struct, frozen=True):
    """Tokens that the provider counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Try(msgspec.Struct, frozen=True):
    """What became of one provider while a chain looked for a reply; times since the request."""

    provider: str
    started_ms: float
    outcome: Literal["won", "lost", "failed", "probed"]
    error: str = ""


class Text(msgspec.Struct, frozen=True):
    """The next piece of the reply, spaces included."""

    text: str


class Done(msgspec.Struct, frozen=True):
    """The reply is over; nothing follows.

    `finish` is `cut` when the provider died after words had flowed: the words stand, `error` says what
    happened. `usage` is None where the provider did not count. A chain fills in the rest: times in
    milliseconds since the request.
    """

    finish: Literal["stop", "length", "tool_calls", "content_filter", "cut"]
    usage: Usage | None = None
    provider: str = ""
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    tries: tuple[Try, ...] = ()
    error: str = ""


Delta: TypeAlias = Text | ToolCall | Done


class ModelError(Exception):
    """No reply came. `retryable` says whether asking the same provider again may help."""

    retryable: ClassVar[bool] = True
    kind: ClassVar[str] = "model"

    def __init__(self, message: str = "", *, provider: str = "", retry_after: float | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])
        self.provider = provider
        self.retry_after = retry_after  # seconds the provider asked us to stay away


class Unreachable(ModelError):
    """The provider could not be reached or hung up. Check its address and the network."""

    kind = "unreachable"


class Overloaded(ModelError):
    """The provider reports a fault of its own (5xx). It usually passes."""

    kind = "overloaded"


class RateLimited(ModelError):
    """The provider takes no more requests for now (429). Raise the limit of the account or add a provider."""

    kind = "rate_limited"


class TimedOut(ModelError):
    """The provider did not answer in time."""

    kind = "timed_out"


class BadReply(ModelError):
    """The provider answered with something that is no reply."""

    kind = "bad_reply"


class Rejected(ModelError):
    """The provider does not accept this request (4xx). Check the model's name and the request."""

    retryable = False
    kind = "rejected"


class Denied(ModelError):
    """The provider does not accept the key (401, 402, 403). Check the key and the account."""

    retryable = False
    kind = "denied"


class NoReply(ModelError):
    """Every provider failed. `errors` holds what each one said."""

    kind = "no_reply"

    def __init__(self, errors: tuple[ModelError, ...], tries: tuple[Try, ...] = ()) -> None:
        told = "; ".join(f"{error.provider or '?'}: {error.kind}: {error}" for error in errors)
        super().__init__(f"No language model answered: {told or 'none is configured'}")
        self.errors = errors
        self.tries = tries


class Model(Protocol):
    """Something that writes replies.

    Implementations are used by many calls at once. `stream` yields `Text` and `ToolCall` deltas and then
    exactly one `Done`, or raises a `ModelError`; a `ModelError` may also come after deltas. Closing the
    generator or cancelling the task that reads it closes the provider's connection at once, without waiting
    for the provider.
    """

    name: str

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Start writing a reply."""

    def describe(self) -> str:
        """What this is and where, for logs and the start table; a stand-in says so."""

    async def aclose(self) -> None:
        """Give connections back. The model is not used afterwards."""


class Timer(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """Make it not happen."""


class Clock(Protocol):
    """Time as a chain needs it; tests pass one that stands still until told."""

    def now(self) -> float:
        """Monotonic seconds."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Have `callback` called once, `seconds` from now."""


class LoopClock:
    """The running event loop's own time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)


def from_status(status: int, message: str, headers: Mapping[str, str], provider: str) -> ModelError:
    """The error that an HTTP status of 400 or more stands for."""
    text = f"{status}: {message[:300]}"
    if status == RATE_LIMITED:
        return RateLimited(text, provider=provider, retry_after=_seconds(headers.get("retry-after", "")))
    if status in CREDENTIAL_STATUSES:
        return Denied(text, provider=provider)
    if status in CLIENT_ERRORS and status not in OVERLOAD_STATUSES:
        return Rejected(text, provider=provider)
    return Overloaded(text, provider=provider, retry_after=_seconds(headers.get("retry-after", "")))


def _seconds(value: str) -> float | None:
    try:
        return min(max(float(value), 0.0), 300.0)
    except ValueError:
        return None  # an HTTP date: rare, and the breaker knows how to wait


def fault(provider: str, said: str, *, late: bool = False) -> ModelError:
    """The error behind what a service reported in words instead of by a status."""
    low = said.lower()
    if late:
        return TimedOut(said, provider=provider)
    if any(mark in low for mark in _QUOTA):
        return RateLimited(said, provider=provider, retry_after=QUOTA_SECONDS)
    if any(mark in low for mark in _DENIED):
        return Denied(said, provider=provider)
    return Unreachable(said, provider=provider)
