"""Logs: one line per event, with the ids of the request, call or job it belongs to and without personal data.

Above debug level no line holds a phone number, an e-mail address or what people and models say to each
other; at no level does it hold a secret. Lines of libraries (`logging`, and `loguru` of Pipecat) pass the
same gate.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TextIO

import loguru
import msgspec
import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from infra.settings import Section, Settings

SPEECH_KEYS = frozenset(
    {
        "text",
        "transcript",
        "prompt",
        "prompts",
        "instructions",
        "heard",
        "spoken",
        "said",
        "utterance",
        "reply",
    }
).union({"content", "messages", "turns"})
PERSON_KEYS = frozenset({"number", "from_number", "to_number", "phone", "caller", "callee", "email", "digits", "body"})
SECRET_KEY = re.compile(r"token$|secret|password|api_?key|authorization|cookie|signature", re.IGNORECASE)
PHONE = re.compile(r"(?:\+|%2B)\d(?:[ ().-]{0,2}\d){6,14}(?!\w)|(?<![\w.:+-])\d{10,15}(?![\w.:-])")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
SHORTEST_SECRET = 6
DEPTH_MAX = 6


class Redactor:
    """A structlog processor that takes out secrets and, unless `personal_too` is false, personal data.

    Values are judged by their key where it tells (`text`, `to_number`, `auth_token`), and every string by
    what it looks like. What replaces them says what was there and, for speech, how long it was.
    """

    def __init__(self, secrets: Iterable[str] = (), *, personal_too: bool = True) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None
        self._personal_too = personal_too

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {key: self._value(key, value, 0) for key, value in event.items()}

    def scrub(self, text: str) -> str:
        """`text` without what looks like a secret, a phone number or an e-mail address."""
        if self._secrets is not None:
            text = self._secrets.sub("[secret]", text)
        text = URL_PASSWORD.sub(r"\1:[secret]@", text)
        if self._personal_too:
            text = PHONE.sub("[number]", EMAIL.sub("[email]", text))
        return text

    def _value(self, key: str, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if SECRET_KEY.search(key):
            return "[secret]"
        if self._personal_too and key in SPEECH_KEYS:
            return f"[speech, {len(value)} long]" if hasattr(value, "__len__") else "[speech]"
        if self._personal_too and key in PERSON_KEYS:
            return "[personal]"
        if isinstance(value, str):
            return self.scrub(value)
        if depth < DEPTH_MAX:
            if isinstance(value, Mapping):
                return {str(name): self._value(str(name), part, depth + 1) for name, part in value.items()}
            if isinstance(value, list | tuple | set | frozenset):
                return [self._value("", part, depth + 1) for part in value]
        return self.scrub(repr(value))


def configure(
    settings: Settings,
    *,
    stream: TextIO | None = None,
    form: Literal["auto", "json", "console"] | None = None,
) -> None:
    """Send every log line of this process to `stream` (standard error) as `LOG_LEVEL` and `LOG_FORMAT` say.

    Call it first in every process, before Pipecat is imported, and again after a fork if the stream changed.
    """
    stream = stream or sys.stderr
    form = form or settings.log_format
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    chosen = ("console" if stream.isatty() else "json") if form == "auto" else form
    redactor = Redactor(secrets_of(settings), personal_too=level > logging.DEBUG)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redactor,
        structlog.processors.TimeStamper(fmt="iso", utc=True),  # after the redactor: digits of ours
    ]
    render: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if chosen == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,  # a forked host configures anew
    )
    _adopt_libraries(level, shared, render, stream)


@contextlib.contextmanager
def identified(
    *, request_id: str | None = None, call_id: str | None = None, job_id: str | None = None
) -> Iterator[None]:
    """Put the ids on every line logged in the block, and in every task started in it."""
    given = {"request_id": request_id, "call_id": call_id, "job_id": job_id}
    with structlog.contextvars.bound_contextvars(**{key: value for key, value in given.items() if value}):
        yield


def secrets_of(section: Section) -> Iterator[str]:
    """Every secret value in a tree of settings."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, Section):
            yield from secrets_of(value)


def _adopt_libraries(level: int, shared: list[Processor], render: Processor, stream: TextIO) -> None:
    """Bring in the lines of `logging` and `loguru`: from warnings on, or all of them at debug level."""
    threshold = level if level <= logging.DEBUG else max(level, logging.WARNING)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    loguru.logger.remove()
    loguru.logger.add(_from_loguru, level=threshold, format="{message}")


def _from_loguru(message: loguru.Message) -> None:
    record = message.record
    exception = record["exception"]
    info = (exception.type, exception.value, exception.traceback) if exception else None
    logger = logging.getLogger(record["name"] or "loguru")
    logger.log(record["level"].no, "%s", record["message"], exc_info=info)  # type: ignore[arg-type]


def _to_json(event: EventDict, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
