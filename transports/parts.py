"""The parts a node is made of: each one real or a stand-in, as told at start and refused in production."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.settings import Settings, SettingsError, Twilio

TWILIO = "https://api.twilio.com"
STRIPE = "https://api.stripe.com"


@dataclass(frozen=True, slots=True)
class Part:
    """One part: what does the work, where, and whether it only stands in for the real thing."""

    name: str
    engine: str
    address: str = ""
    stand_in: bool = False


def parts_of(settings: Settings, database: str, cache: str) -> list[Part]:
    """The parts that these settings choose."""
    listener, voice, brain = settings.engines
    local = "in this process"
    rows = {
        "deepgram": ("Deepgram", settings.deepgram.url, False),
        "offline_listener": ("PocketSphinx with a grammar", local, True),
        "elevenlabs": ("ElevenLabs", settings.elevenlabs.url, False),
        "offline_voice": ("eSpeak NG", local, True),
        "model": ("Cerebras, then OpenAI-compatible", settings.cerebras.url, False),
        "scripted": ("scripted persona, no language model", local, True),
        "double": ("zero-latency double", local, True),
    }
    carrier = settings.twilio.api_url or TWILIO
    real_carrier = (urlsplit(carrier).hostname or "").endswith("twilio.com")
    account = settings.twilio.auth_token != Twilio().auth_token

    def part(name: str, engine: str) -> Part:
        title, address, stand_in = rows.get(engine, (engine, str(settings.speech.weights), False))
        return Part(name, title, address, stand_in)

    embedded = not settings.database_url.get_secret_value()
    return [
        Part("database", "PostgreSQL, embedded" if embedded else "PostgreSQL", database),
        Part(
            "cache",
            "Valkey, embedded" if not settings.redis_url.get_secret_value() else "Valkey or Redis",
            cache,
        ),
        Part("carrier", carrier_name(real_carrier, account), carrier, not (real_carrier and account)),
        part("listener", "offline_listener" if listener == "offline" else listener),
        part("voice", "offline_voice" if voice == "offline" else voice),
        part("brain", brain),
        Part("turns", "Silero, smart-turn v3", "in each host; one turn server"),
        *product_parts(settings),
    ]


def product_parts(settings: Settings) -> list[Part]:
    """The parts that people's accounts and money hang on."""
    own_key = not settings.vault.master_key.get_secret_value()
    stripe = settings.stripe.api_url or STRIPE
    key = settings.stripe.secret_key.get_secret_value()
    real = (urlsplit(stripe).hostname or "").endswith("stripe.com") and bool(key)
    smtp = settings.mail.smtp_url.get_secret_value()
    vectors = settings.embeddings.url
    return [
        Part("vault", "AES-256-GCM, a key per user", "its key lies in NODE_VAR" if own_key else "", own_key),
        Part("payments", "Stripe" if real else "payments double" if key else "none", stripe if key else "", not real),
        Part("mail", "SMTP" if smtp else "outbox only", "", not smtp),
        Part("search", "vectors of a provider", vectors) if vectors else Part("search", "vectors of hashed words"),
    ]


def carrier_name(real: bool, account: bool) -> str:
    if not real:
        return "phone network simulator"
    return "Twilio" if account else "Twilio, but no account: TWILIO_AUTH_TOKEN is the simulator's"


def refuse_stand_ins(settings: Settings, parts: Iterable[Part]) -> None:
    """In production every part is the real one.

    Raises:
        SettingsError: names the stand-ins and what replaces each.
    """
    if settings.environment != "production":
        return
    remedy = {
        "carrier": "unset TWILIO_API_URL and set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN",
        "listener": "set DEEPGRAM_API_KEY",
        "voice": "set ELEVENLABS_API_KEY",
        "brain": "set CEREBRAS_API_KEY or OPENAI_API_KEY",
        "vault": "set VAULT_MASTER_KEY",
        "payments": "unset STRIPE_API_URL and set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET",
        "mail": "set MAIL_SMTP_URL",
    }
    found = [f"{part.name} is a stand-in ({part.engine}): {remedy[part.name]}" for part in parts if part.stand_in]
    if not settings.node.operator_token.get_secret_value():
        found.append("the operator page has no lock: set NODE_OPERATOR_TOKEN")
    if found:
        raise SettingsError("ENVIRONMENT=production refuses stand-ins. " + "; ".join(found) + ".")


def table(parts: Iterable[Part]) -> str:
    """The parts as the table printed at start."""
    rows = [(p.name, "stand-in" if p.stand_in else "real", p.engine, p.address) for p in parts]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + f"  {row[3]}" for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
