"""What may become of a call: its states, the reasons for its end, and the one table of transitions (COM-13).

The table is plain data. `moves` renders the part that one request can use into a parameter of the SQL
statement that applies it, so PostgreSQL and the property tests follow the same rules.

A call moves forward only, and may skip states, because carriers' events get lost and media-only calls never
ring. A terminal state absorbs everything. The reason decides the terminal state:

* an ordinary end (a hang-up, a limit reached) is `completed` if the call was answered, else `canceled`;
* a fault is `failed`, whatever else was under way: a crash is never reported as success;
* `busy`, `no_answer` and every `rejected_…` are possible only before the call was answered.

Where a call was `ending`, the reason with which it began to end stands, unless a fault came after it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a call stands."""

    CREATED = "created"
    AUTHORISING = "authorising"
    DIALING = "dialing"
    RINGING = "ringing"
    IN_PROGRESS = "in_progress"
    ENDING = "ending"
    COMPLETED = "completed"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    VOICEMAIL = "voicemail"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a call ended; each call has exactly one."""

    CALLER_HUNG_UP = "caller_hung_up"
    BOT_HUNG_UP = "bot_hung_up"
    OPERATOR = "operator"
    API = "api"
    TIME_LIMIT = "time_limit"
    IDLE = "idle"
    OPTED_OUT = "opted_out"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    VOICEMAIL = "voicemail"
    CANCELED = "canceled"
    REJECTED_CAPACITY = "rejected_capacity"
    REJECTED_CALLER = "rejected_caller"
    REJECTED_NUMBER = "rejected_number"
    REJECTED_PERSONA = "rejected_persona"
    REJECTED_QUIET_HOURS = "rejected_quiet_hours"
    REJECTED_FUNDS = "rejected_funds"
    REJECTED_PAYMENTS = "rejected_payments"  # payments were away, so nothing could be held
    REJECTED_ON_CALL = "rejected_on_call"  # its owner was on another call
    CARRIER_ERROR = "carrier_error"
    PIPELINE_ERROR = "pipeline_error"
    HOST_LOST = "host_lost"
    STREAM_LOST = "stream_lost"
    MEDIA_NEVER_ARRIVED = "media_never_arrived"
    UNACCOUNTED = "unaccounted"  # neither we nor the carrier can say what became of it


ORDER = (State.CREATED, State.AUTHORISING, State.DIALING, State.RINGING, State.IN_PROGRESS, State.ENDING)
TERMINAL = frozenset(State) - frozenset(ORDER)
ORDINARY = frozenset(
    {
        Reason.CALLER_HUNG_UP,
        Reason.BOT_HUNG_UP,
        Reason.OPERATOR,
        Reason.API,
        Reason.TIME_LIMIT,
        Reason.IDLE,
        Reason.OPTED_OUT,
    }
)
FAULTS = frozenset(
    {
        Reason.CARRIER_ERROR,
        Reason.PIPELINE_ERROR,
        Reason.HOST_LOST,
        Reason.STREAM_LOST,
        Reason.MEDIA_NEVER_ARRIVED,
        Reason.UNACCOUNTED,
    }
)
REJECTIONS = frozenset(reason for reason in Reason if reason.startswith("rejected_"))
FITTING: dict[State, frozenset[Reason]] = {
    State.ENDING: frozenset(Reason),
    State.COMPLETED: ORDINARY,
    State.CANCELED: ORDINARY | {Reason.CANCELED},
    State.BUSY: frozenset({Reason.BUSY}),
    State.NO_ANSWER: frozenset({Reason.NO_ANSWER}),
    State.VOICEMAIL: frozenset({Reason.VOICEMAIL}),
    State.REJECTED: REJECTIONS,
    State.FAILED: FAULTS,
}
AFTER_AN_ANSWER = frozenset({State.COMPLETED, State.VOICEMAIL, State.FAILED})
TRANSITIONS: dict[State, frozenset[State]] = {
    state: frozenset(ORDER[rank + 1 :]) | TERMINAL for rank, state in enumerate(ORDER)
} | {state: frozenset() for state in TERMINAL}
TRANSITIONS[State.IN_PROGRESS] = frozenset({State.ENDING}) | AFTER_AN_ANSWER

CARRIER_STATUSES: dict[str, tuple[State, Reason | None]] = {
    "queued": (State.DIALING, None),
    "initiated": (State.DIALING, None),
    "ringing": (State.RINGING, None),
    "answered": (State.IN_PROGRESS, None),
    "in-progress": (State.IN_PROGRESS, None),
    "completed": (State.COMPLETED, Reason.CALLER_HUNG_UP),
    "busy": (State.BUSY, Reason.BUSY),
    "no-answer": (State.NO_ANSWER, Reason.NO_ANSWER),
    "canceled": (State.CANCELED, Reason.CANCELED),
    "failed": (State.FAILED, Reason.CARRIER_ERROR),
}
"""What Twilio's CallStatus asks for. Its `completed` says that the call was answered and is over."""


@dataclass(frozen=True)
class Situation:
    """As much of a call as a transition depends on."""

    state: State = State.CREATED
    answered: bool = False
    ending_reason: Reason | None = None
    ended_reason: Reason | None = None

    @property
    def key(self) -> str:
        """The column `calls.situation`."""
        return f"{self.state}:{'answered' if self.answered else 'unanswered'}:{self.ending_reason or ''}"


def move(now: Situation, to: State, reason: Reason | None = None) -> Situation | None:
    """What becomes of a call in the situation `now` that is asked to move to `to`; None if it stays.

    A terminal `to` is a request: the state reached follows from the reason that stands.

    Raises:
        ValueError: `reason` does not belong to `to`; the caller's mistake.
    """
    if to in FITTING and reason not in FITTING[to]:
        raise ValueError(f"A call cannot become {to} because of {reason}.")
    if to not in FITTING and reason is not None:
        raise ValueError(f"{to} takes no reason, got {reason}.")
    if to not in TERMINAL:
        if to not in TRANSITIONS[now.state]:
            return None
        return Situation(to, now.answered or to is State.IN_PROGRESS, reason)
    if now.state in TERMINAL:
        return None
    assert reason is not None
    stands = reason
    if now.ending_reason is not None and (now.ending_reason in FAULTS or reason not in FAULTS):
        stands = now.ending_reason
    answered = now.answered or to is State.COMPLETED
    reached = outcome(stands, answered)
    if reached not in TRANSITIONS[now.state] or (now.answered and reached not in AFTER_AN_ANSWER):
        return None
    return Situation(reached, answered, now.ending_reason, stands)


def outcome(reason: Reason, answered: bool) -> State:
    """The terminal state that a call has which ended for `reason`."""
    if reason in ORDINARY:
        return State.COMPLETED if answered else State.CANCELED
    if reason in FAULTS:
        return State.FAILED
    return State.REJECTED if reason in REJECTIONS else State(reason)


@functools.cache
def moves(to: State, reason: Reason | None = None) -> Mapping[str, Mapping[str, object]]:
    """The table of `move` for one request: from `Situation.key` to what the columns become."""
    reasons = (None, *Reason)
    live = [Situation(state, state is State.IN_PROGRESS) for state in ORDER[:-1]]
    live += [Situation(State.ENDING, answered, why) for answered in (False, True) for why in reasons if why]
    table = {}
    for now in live:
        then = move(now, to, reason)
        if then is not None:
            table[now.key] = {
                "state": then.state,
                "answered": then.answered,
                "ending": then.ending_reason,
                "ended": then.ended_reason,
            }
    return table
