"""The TwiML documents we answer with, built by the SDK, so that whatever text goes in is escaped."""

from __future__ import annotations

from collections.abc import Mapping

from twilio.twiml.messaging_response import MessagingResponse
from twilio.twiml.voice_response import Connect, Stream, VoiceResponse

VOICE = "Polly.Joanna-Neural"


def connect_stream(stream_url: str, action_url: str, parameters: Mapping[str, str]) -> str:
    """Connect the call's audio to `stream_url`; when that stream ends, Twilio asks `action_url` what to do.

    `stream_url` must be wss (ws for a double) without a query string, which Twilio drops.
    """
    stream = Stream(url=stream_url)
    for name, value in parameters.items():
        stream.parameter(name=name, value=value)
    connect = Connect(action=action_url, method="POST")
    connect.append(stream)
    response = VoiceResponse()
    response.append(connect)
    return str(response)


def hang_up() -> str:
    """End the call."""
    response = VoiceResponse()
    response.hangup()
    return str(response)


def reject(reason: str = "rejected") -> str:
    """Refuse an inbound call unanswered, and so free of charge; `reason` is `rejected` or `busy`."""
    response = VoiceResponse()
    response.reject(reason="busy" if reason == "busy" else "rejected")
    return str(response)


def say_and_hang_up(text: str, language: str = "en-US") -> str:
    """Have Twilio speak a sentence, for when we cannot, and end the call."""
    response = VoiceResponse()
    response.say(text, voice=VOICE, language=language)
    response.hangup()
    return str(response)


def text_back(text: str) -> str:
    """Answer a text message; an empty `text` answers nothing."""
    response = MessagingResponse()
    if text:
        response.message(text)
    return str(response)


def pause_and_redirect(url: str, seconds: int) -> str:
    """Keep the caller on a silent line for `seconds`, then ask `url`."""
    response = VoiceResponse()
    response.pause(length=seconds)
    response.redirect(url, method="POST")
    return str(response)
