"""The carrier port: what we ask of whoever carries our phone calls, and how that can fail.

The errors are told apart by what is known afterwards: nothing happened and a later try may work
(`CarrierDown`, `CarrierBusy`), nothing happened and no try will work (`CarrierRefused`), or nobody knows
(`OutcomeUnknown`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

AnsweredBy = Literal["human", "machine", "fax", "unknown"]

# Twilio's CallStatus to our call states (COM-13).
_STATES = {
    "queued": "dialing",
    "initiated": "dialing",
    "ringing": "ringing",
    "in-progress": "in_progress",
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "failed",
    "canceled": "canceled",
}


class CarrierError(Exception):
    """The carrier did not do what it was asked; the subclass tells what to do about it."""


class CarrierDown(CarrierError):
    """The carrier cannot be reached or answers with errors of its own. Nothing was done; try again later."""


class CarrierBusy(CarrierDown):
    """The carrier asks us to slow down. Nothing was done; try again after `retry_after` seconds.

    `code` is its own error number, where it gives one.
    """

    def __init__(self, message: str, retry_after: float | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.retry_after, self.code = retry_after, code


class CarrierRefused(CarrierError):
    """The carrier will not do this, however often it is asked; `code` is its own error number."""

    def __init__(self, message: str, *, status: int = 0, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class OutcomeUnknown(CarrierError):
    """A call may or may not have been placed: the answer was lost. Ask the carrier's list before dialling."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A call to place.

    Args:
        to, from_number: E.164.
        answer_url: asked for TwiML when somebody picks up.
        status_url: told of every change of state.
        machine_url: told who picked up, when that is known; empty for no detection.
        time_limit_s: the carrier ends the call after this long, whatever we do.
        key: our call id; sent along as an idempotency token.
        ring_s: how long to let it ring.
    """

    to: str
    from_number: str
    answer_url: str
    status_url: str
    machine_url: str = ""
    time_limit_s: int | None = None
    key: str = ""
    ring_s: int = 30


@dataclass(frozen=True, slots=True)
class CarrierCall:
    """A call as the carrier knows it. `status` is the carrier's word, `state` ours."""

    sid: str
    status: str
    state: str
    to: str
    from_number: str
    direction: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: int | None = None
    answered_by: AnsweredBy | None = None


class Carrier(Protocol):
    """Whoever carries our calls. Every method may raise `CarrierDown`, `CarrierBusy` and `CarrierRefused`."""

    async def place(self, placement: Placement) -> CarrierCall:
        """Dial. Never repeated by itself.

        Raises:
            OutcomeUnknown: it may be ringing or not.
        """
        ...

    async def end(self, sid: str) -> None:
        """End a call, whatever its state; one that is over already is fine."""
        ...

    async def redirect(self, sid: str, url: str) -> None:
        """Have a live call fetch new TwiML from `url`.

        Raises:
            CarrierRefused: the call is not in progress.
        """
        ...

    async def get(self, sid: str) -> CarrierCall:
        """How a call stands."""
        ...

    async def list(self, to: str, since: datetime, limit: int = 50) -> tuple[CarrierCall, ...]:
        """The calls to a number created at or after `since`, for reconciliation after a lost reply."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def state_of(status: str) -> str:
    """Our state for a carrier's CallStatus.

    Raises:
        ValueError: Twilio documents no such status.
    """
    try:
        return _STATES[status]
    except KeyError:
        raise ValueError(f"unknown carrier status {status!r}") from None


def answered_by(value: str) -> AnsweredBy:
    """Twilio's AnsweredBy (`human`, `machine_start`, `machine_end_beep`, `fax`, ...) in four words."""
    if value.startswith("machine"):
        return "machine"
    return value if value in ("human", "fax") else "unknown"  # type: ignore[return-value]
