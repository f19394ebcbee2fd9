"""The settings tree: every knob of a node, read once at start from the environment and one file.

Each section is a group of variables with one prefix (`TWILIO_AUTH_TOKEN` is `settings.twilio.auth_token`).
`settings.sample.env` documents every one. Nothing else in the product reads the environment.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

PORT_MAX = 65535
WEB = ("https", "http")
STREAMS = ("wss", "ws")
ADDRESSES: dict[str, tuple[str, ...]] = {
    "DATABASE_URL": ("postgresql", "postgres"),
    "REDIS_URL": ("redis", "rediss", "unix"),
    "NODE_PUBLIC_URL": WEB,
    "TWILIO_API_URL": WEB,
    "DEEPGRAM_URL": STREAMS,
    "ELEVENLABS_URL": STREAMS,
    "ELEVENLABS_API_URL": WEB,
    "CEREBRAS_URL": WEB,
    "OPENAI_URL": WEB,
    "STRIPE_API_URL": WEB,
    "MAIL_SMTP_URL": ("smtp", "smtps"),
    "EMBEDDINGS_URL": WEB,
}
SHARED_PREFIXES = ("NODE_", "OPENAI_")  # other programs use them too; only a near miss is surely meant for us


class SettingsError(Exception):
    """The settings cannot be used. Change what the message names in the environment or the settings file."""


class Section(BaseModel):
    """A group of settings that share a prefix."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(Section):
    """This machine's part of the server."""

    name: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    bind: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=PORT_MAX)
    public_url: str = ""  # how carriers reach us; default http://bind:port
    var: Path = Path("var")
    operator_token: SecretStr = SecretStr("")
    drain_seconds: float = Field(default=5.0, ge=0)
    trust_forwarded: bool = False
    allowed_origins: str = ""  # whose pages may use the API, besides our own; comma-separated


class Calls(Section):
    """How calls are placed on host processes, and their limits."""

    per_host: int = Field(default=10, ge=1, le=100)
    max_hosts: int = Field(default=4, ge=1, le=256)
    warm_hosts: int = Field(default=1, ge=0, le=32)
    max_lag_ms: float = Field(default=100.0, gt=0)
    max_turn_delay_ms: float = Field(default=600.0, gt=0)
    host_memory_mb: int = Field(default=600, ge=50)
    stall_seconds: float = Field(default=5.0, gt=0)
    limit_seconds: int = Field(default=900, ge=10)
    idle_seconds: float = Field(default=12.0, gt=0)
    persona: str = "mia"  # who answers a number that has no persona of its own


class Speech(Section):
    """Which engines listen, think and speak. `auto` takes the keyed provider when there is a key."""

    listener: Literal["auto", "deepgram", "offline", "whisper", "moonshine", "double"] = "auto"
    voice: Literal["auto", "elevenlabs", "offline", "kokoro", "piper", "double"] = "auto"
    brain: Literal["auto", "model", "scripted", "double"] = "auto"
    weights: Path | None = None  # folder of local engine weights


class Twilio(Section):
    """The carrier's account; the defaults are those of the simulator, known to everybody."""

    account_sid: str = "AC00000000000000000000000000000000"
    auth_token: SecretStr = SecretStr("simulator-auth-token")
    api_url: str = ""  # empty: Twilio itself; else a double such as the simulator
    number: str = "+15550100000"
    timeout_seconds: float = Field(default=10.0, gt=0)
    verify_service: str = "VA00000000000000000000000000000000"  # proves people's numbers by a code


class Deepgram(Section):
    api_key: SecretStr = SecretStr("")
    url: str = "wss://api.deepgram.com"
    model: str = "nova-3"


class Elevenlabs(Section):
    api_key: SecretStr = SecretStr("")
    url: str = "wss://api.elevenlabs.io"
    api_url: str = "https://api.elevenlabs.io"
    model: str = "eleven_flash_v2_5"
    voice: str = "21m00Tcm4TlvDq8ikWAM"


class Cerebras(Section):
    api_key: SecretStr = SecretStr("")
    url: str = "https://api.cerebras.ai"
    model: str = "gpt-oss-120b"


class Openai(Section):
    api_key: SecretStr = SecretStr("")
    url: str = "https://api.openai.com/v1"
    model: str = "gpt-4o-mini"


class Vault(Section):
    """What seals personal data at rest."""

    master_key: SecretStr = SecretStr("")  # base64 of 32 bytes; empty: one of our own in NODE_VAR


class Accounts(Section):
    """People's accounts and sessions."""

    token_secret: SecretStr = SecretStr("")  # signs access tokens; empty: derived from the vault's master key
    access_seconds: int = Field(default=900, ge=60, le=3600)
    session_days: int = Field(default=7, ge=1, le=30)
    refresh_days: int = Field(default=30, ge=1, le=90)
    oidc_file: Path | None = None  # TOML: who else may say who somebody is


class Stripe(Section):
    """The card processor."""

    secret_key: SecretStr = SecretStr("")
    publishable_key: str = ""
    webhook_secret: SecretStr = SecretStr("")
    api_url: str = ""  # empty: Stripe itself; else a double
    timeout_seconds: float = Field(default=10.0, gt=0)


class Polar(Section):
    """Who sells on the web for us; heard, not asked."""

    webhook_secret: SecretStr = SecretStr("")


class Revenuecat(Section):
    """Who tells of purchases in app stores; heard, not asked."""

    authorization: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")


class Mail(Section):
    """How people are written to."""

    smtp_url: SecretStr = SecretStr("")  # smtps://user:password@host:465; empty: kept in the outbox, not sent
    sender: str = "Ringdown <no-reply@localhost>"


class Limits(Section):
    """Requests allowed a minute, by kind of route; each for a user and for an address."""

    read: int = Field(default=600, ge=1)
    write: int = Field(default=120, ge=1)
    calls: int = Field(default=10, ge=1)
    auth: int = Field(default=20, ge=1)
    verify: int = Field(default=5, ge=1)


class Compliance(Section):
    """What may be dialled, and when."""

    countries: str = "US,CA,GB,IE,DE,FR,NL,ES,IT,TR,KR"  # ISO codes of the countries we dial
    quiet_until: str = Field(default="08:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    quiet_from: str = Field(default="21:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    attempts_a_day: int = Field(default=3, ge=1)
    user_usd_a_day: int = Field(default=60, ge=1)
    system_usd_a_day: int = Field(default=5000, ge=1)


class Embeddings(Section):
    """What makes the vectors that past conversations are searched by."""

    url: str = ""  # empty: hashed words, made here; else an OpenAI-compatible service
    api_key: SecretStr = SecretStr("")
    model: str = "text-embedding-3-small"  # must give 512 numbers when asked for so many


class Schedule(Section):
    """Calls that were booked for later."""

    hold_minutes: int = Field(default=5, ge=1, le=60)  # before the call, the money is held
    missed_minutes: int = Field(default=5, ge=1, le=60)  # after the time, a call is missed
    lease_seconds: float = Field(default=30.0, gt=0)  # for one dial; longer than the carrier's answer and its list lag


class Settings(Section):
    """Everything a node is told. Build it with `load`."""

    environment: Literal["development", "production"] = "development"
    database_url: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"  # auto: console on a terminal, else json
    node: Node = Node()
    calls: Calls = Calls()
    speech: Speech = Speech()
    twilio: Twilio = Twilio()
    deepgram: Deepgram = Deepgram()
    elevenlabs: Elevenlabs = Elevenlabs()
    cerebras: Cerebras = Cerebras()
    openai: Openai = Openai()
    vault: Vault = Vault()
    accounts: Accounts = Accounts()
    stripe: Stripe = Stripe()
    polar: Polar = Polar()
    revenuecat: Revenuecat = Revenuecat()
    mail: Mail = Mail()
    limits: Limits = Limits()
    compliance: Compliance = Compliance()
    embeddings: Embeddings = Embeddings()
    schedule: Schedule = Schedule()

    @property
    def public_url(self) -> str:
        """The address carriers are given, without a trailing slash."""
        return (self.node.public_url or f"http://{self.node.bind}:{self.node.port}").rstrip("/")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        choices = (
            ("SPEECH_LISTENER", self.speech.listener, "deepgram", self.deepgram.api_key),
            ("SPEECH_VOICE", self.speech.voice, "elevenlabs", self.elevenlabs.api_key),
        )
        for choice, chosen, provider, key in choices:
            if chosen == provider and not key.get_secret_value():
                raise ValueError(f"{choice}={provider} needs {provider.upper()}_API_KEY: set it or choose 'auto'")
        if self.speech.brain == "model" and not self.model_keys:
            raise ValueError("SPEECH_BRAIN=model needs CEREBRAS_API_KEY or OPENAI_API_KEY: set one or choose 'auto'")
        local = {self.speech.listener, self.speech.voice} & {"whisper", "moonshine", "kokoro", "piper"}
        if local and self.speech.weights is None:
            raise ValueError(f"{', '.join(sorted(local))} needs SPEECH_WEIGHTS: set it to the folder of its weights")
        if self.calls.warm_hosts > self.calls.max_hosts:
            raise ValueError("CALLS_WARM_HOSTS is more than CALLS_MAX_HOSTS: lower the one or raise the other")
        for name, schemes in ADDRESSES.items():
            value = _at(self, variables()[name])
            if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
                raise ValueError(f"{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return self

    @property
    def engines(self) -> tuple[str, str, str]:
        """Listener, voice and brain, with `auto` resolved: the keyed provider where there is a key."""
        listener, voice, brain = self.speech.listener, self.speech.voice, self.speech.brain
        deepgram = bool(self.deepgram.api_key.get_secret_value())
        elevenlabs = bool(self.elevenlabs.api_key.get_secret_value())
        return (
            ("deepgram" if deepgram else "offline") if listener == "auto" else listener,
            ("elevenlabs" if elevenlabs else "offline") if voice == "auto" else voice,
            ("model" if self.model_keys else "scripted") if brain == "auto" else brain,
        )

    @property
    def model_keys(self) -> bool:
        """Whether any language model provider has a key."""
        return bool(self.cerebras.api_key.get_secret_value() or self.openai.api_key.get_secret_value())


def sections() -> Iterator[tuple[str, type[Section]]]:
    """The sections of the tree with their names, in the order of the sample file."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def variables() -> dict[str, tuple[str, ...]]:
    """Every environment variable with its path in the tree, such as `NODE_PORT` to `("node", "port")`."""
    known: dict[str, tuple[str, ...]] = {}
    grouped = dict(sections())
    for name in Settings.model_fields:
        if name in grouped:
            known |= {f"{name}_{leaf}".upper(): (name, leaf) for leaf in grouped[name].model_fields}
        else:
            known[name.upper()] = (name,)
    return known


def load(file: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings: the environment over `file` (default `./.env` if it exists), `overrides` over both.

    An empty variable counts as not set. `overrides` are named like the variables, in lower case
    (`node_port=0`).

    Raises:
        SettingsError: a setting is unknown, malformed or contradicts another; it says what to change.
    """
    environ = os.environ if environ is None else environ
    known = variables()
    if file is not None and not file.is_file():
        raise SettingsError(f"There is no settings file {file}; copy settings.sample.env there or drop --settings.")
    path = file or Path(".env")
    from_file = dotenv_values(path) if path.is_file() else {}
    for name in from_file:
        if name not in known:
            raise SettingsError(f"{path}: unknown setting {name}.{_suggest(name, known)}")
    for name in environ:
        if name not in known and _is_ours(name, known):
            raise SettingsError(f"Unknown setting {name} in the environment.{_suggest(name, known)}")
    tree: dict[str, Any] = {}
    given = {k: v for k, v in from_file.items() if v} | {k: v for k, v in environ.items() if k in known and v != ""}
    for name, value in (given | {k.upper(): v for k, v in overrides.items()}).items():
        if name not in known:
            raise SettingsError(f"Unknown setting {name}.{_suggest(name, known)}")
        *parents, leaf = known[name]
        target = tree
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(problem) for problem in error.errors())) from None


def _is_ours(name: str, known: Mapping[str, object]) -> bool:
    if name.startswith(SHARED_PREFIXES):
        return bool(difflib.get_close_matches(name, known, n=1, cutoff=0.9))
    return name.startswith(tuple(f"{section.upper()}_" for section, _ in sections()))


def _suggest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else " Remove it; settings.sample.env lists every setting."


def _at(section: Section, path: tuple[str, ...]) -> str:
    value: Any = section
    for name in path:
        value = getattr(value, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _sentence(problem: Any) -> str:
    name = "_".join(str(part) for part in problem["loc"]).upper()
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}; change it from {problem['input']!r}." if name else f"{message}."
