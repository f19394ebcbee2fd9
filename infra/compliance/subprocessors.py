"""Who else processes people's data: made from the adapters that are switched on."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from infra.settings import Settings


class Subprocessor(msgspec.Struct, frozen=True):
    """A company that gets data of ours.

    Args:
        purpose: what for.
        data: what of it.
    """

    name: str
    purpose: str
    data: str
    url: str


TWILIO = Subprocessor(
    "Twilio", "Carries phone calls, proves phone numbers", "phone numbers, call audio", "https://www.twilio.com/legal"
)
DEEPGRAM = Subprocessor("Deepgram", "Turns speech into text", "call audio", "https://deepgram.com/privacy")
ELEVENLABS = Subprocessor(
    "ElevenLabs", "Speaks what a persona says", "a persona's sentences", "https://elevenlabs.io/privacy-policy"
)
CEREBRAS = Subprocessor(
    "Cerebras", "Thinks of what a persona says", "what was said in a call", "https://www.cerebras.ai/privacy-policy"
)
STRIPE = Subprocessor("Stripe", "Charges cards", "card, e-mail address, amounts", "https://stripe.com/privacy")


def subprocessors(settings: Settings) -> tuple[Subprocessor, ...]:
    """The companies that get data under these settings; stand-ins on this machine are none."""
    listener, voice, brain = settings.engines
    found: list[Subprocessor] = []
    if not settings.twilio.api_url or _host(settings.twilio.api_url).endswith("twilio.com"):
        found.append(TWILIO)
    if listener == "deepgram":
        found.append(DEEPGRAM)
    if voice == "elevenlabs":
        found.append(ELEVENLABS)
    if brain == "model" and settings.cerebras.api_key.get_secret_value():
        found.append(CEREBRAS)
    if brain == "model" and settings.openai.api_key.get_secret_value():
        found.append(_at(settings.openai.url, "Thinks of what a persona says", "what was said in a call"))
    if settings.stripe.secret_key.get_secret_value():
        found.append(STRIPE)
    if settings.embeddings.url:
        found.append(_at(settings.embeddings.url, "Makes conversations searchable", "what was said in a call"))
    if url := settings.mail.smtp_url.get_secret_value():
        found.append(_at(url, "Sends e-mail", "e-mail address, letters"))
    return tuple(found)


def _at(url: str, purpose: str, data: str) -> Subprocessor:
    """A provider of which only the address is known."""
    host = _host(url)
    return Subprocessor(host, purpose, data, f"https://{host}")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
