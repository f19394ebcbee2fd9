"""What became of a call, as a sentence for the person whose call it is: what happened and what to do next."""

from __future__ import annotations

from infra.database.call_records import Call
from infra.database.call_states import Reason, State

STATES = {
    State.CREATED: "The call is being prepared.",
    State.AUTHORISING: "The call is being prepared: its money is being set aside.",
    State.DIALING: "We are dialling.",
    State.RINGING: "It is ringing.",
    State.IN_PROGRESS: "You are talking.",
    State.ENDING: "The call is ending.",
}
REASONS = {
    Reason.CALLER_HUNG_UP: "You hung up.",
    Reason.BOT_HUNG_UP: "The conversation came to its end.",
    Reason.OPERATOR: "We had to end this call. Write to support if you want to know why.",
    Reason.API: "You ended the call on the page.",
    Reason.TIME_LIMIT: "The call reached its longest time. Choose more minutes if you want to talk longer.",
    Reason.IDLE: "Nobody spoke for a while, so we hung up.",
    Reason.OPTED_OUT: "You asked not to be called any more. Allow calls to this number under Numbers to undo it.",
    Reason.BUSY: "The line was busy. Nothing was charged; try again in a while.",
    Reason.NO_ANSWER: "Nobody answered. Nothing was charged; try again, or book a call for later.",
    Reason.VOICEMAIL: "A mailbox answered, so we hung up without a word. Nothing was charged.",
    Reason.CANCELED: "The call was cancelled before anybody answered. Nothing was charged.",
    Reason.REJECTED_CAPACITY: "All lines were busy. Nothing was charged; try again in a moment.",
    Reason.REJECTED_CALLER: "This caller could not be taken.",
    Reason.REJECTED_NUMBER: "This number may not be called. Check it under Numbers.",
    Reason.REJECTED_PERSONA: "The persona is not there any more. Choose another one.",
    Reason.REJECTED_QUIET_HOURS: "It was too early or too late there. Tick 'outside these hours' for such calls.",
    Reason.REJECTED_FUNDS: "Your card was declined, or there is none. Check it under Payments, then call again.",
    Reason.REJECTED_PAYMENTS: "Payments did not answer, so we did not dial. Nothing was charged; try again soon.",
    Reason.REJECTED_ON_CALL: "You were on another call. Hang up first.",
    Reason.CARRIER_ERROR: "The phone network could not connect the call. Try again; check the number if it stays so.",
    Reason.PIPELINE_ERROR: "Something broke on our side. The minute in which it broke is not charged.",
    Reason.HOST_LOST: "Something broke on our side. The minute in which it broke is not charged.",
    Reason.STREAM_LOST: "The connection was lost on our side. The minute in which it broke is not charged.",
    Reason.MEDIA_NEVER_ARRIVED: "The phone network never connected the sound. Nothing was charged; try again.",
    Reason.UNACCOUNTED: "We do not know what became of this call, so it is not charged.",
}


def message_of(call: Call) -> str:
    """The sentence for a call as it stands."""
    if call.over and call.ended_reason is not None:
        return REASONS[call.ended_reason]
    return STATES[call.state]
