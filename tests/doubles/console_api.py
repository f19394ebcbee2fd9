"""The API as the console sees it, without a database: one person's data in memory, and calls that a test moves on."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.ids import new_id
from transports.http.pages import Pages

CODE = "123456"
PASSWORD = "correct horse battery"
PRICE = {"id": "price_1", "call_usd_micros": 250_000, "minute_usd_micros": 400_000, "in_force": True}
SYSTEM = (
    ("Nadia", "A worried friend who needs you right now. Gets you out of anything, kindly."),
    ("Mr Halloran", "An urgent manager with a problem that only you can solve."),
    ("Aunt June", "Family, warm and in no hurry; she asks how you really are."),
    ("Samir", "Listens. Asks little, judges nothing, remembers what you said."),
)
ENDED = frozenset({"completed", "no_answer", "busy", "voicemail", "failed", "canceled", "rejected"})
Handler = Callable[[web.Request], Any]


def ago(**span: float) -> str:
    """A moment in the past, as the API writes it."""
    return (dt.datetime.now(dt.UTC) - dt.timedelta(**span)).isoformat()


class ConsoleApi:
    """One person's account, and whatever the console is to be told about it.

    Args:
        signed_in: whether there is a session from the beginning.
        settled: whether the person has agreed, proven a number and added a card.
    """

    def __init__(self, *, signed_in: bool = True, settled: bool = True) -> None:
        self.signed_in, self.expired, self.renewals = signed_in, False, 0
        self.requests: list[tuple[str, str, Any]] = []
        self.served: list[str] = []  # every path, the console's files included
        self.headers: list[dict[str, str]] = []
        self.refusals: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.me: dict[str, Any] = {
            "id": "user_1", "email": "ada@example.com", "email_verified": settled, "name": "Ada",
            "zone": "Europe/Istanbul", "language": "en", "adult": settled, "role": "user", "transcript_days": 90,
            "second_factor": False,
            "consents": dict.fromkeys(("service", "calls", "transcripts", "recording"), settled),
            "created_at": ago(days=40),
        }  # fmt: skip
        self.personas = [self._persona(name, words, system=True) for name, words in SYSTEM]
        self.contacts = [persona["id"] for persona in self.personas[:3]] if settled else []
        self.numbers: list[dict[str, Any]] = []
        self.methods: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.turns: dict[str, list[dict[str, Any]]] = {}
        self.scheduled: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.opted_out: list[str] = []
        self.watchers: set[asyncio.Queue[bytes]] = set()
        self.followed = asyncio.Event()  # whether somebody follows a call
        if settled:
            self._fill()

    def _fill(self) -> None:
        self.numbers.append(self._number("+1 202-555-0143", proven=True))
        self.methods.append(self._method("visa", "4242", default=True))
        self.methods.append(self._method("mastercard", "4444"))
        self.personas.append(self._persona("Kaptan Deniz", "Tells of the sea until you are calm.", system=False))
        for days, seconds, state in (
            (1, 61, "completed"),
            (1, 0, "no_answer"),
            (3, 540, "completed"),
            (9, 95, "completed"),
        ):
            call = self._call(self.personas[days % 3], state, days, seconds)
            self.calls.append(call)
            if seconds:
                self.turns[call["id"]] = self._script(call)
                self.lines.append(self._line("captured", call["cost_usd_micros"], call))
        self.calls.sort(key=lambda call: str(call["created_at"]), reverse=True)
        self.scheduled.append(self._booked(self.personas[0], "pending", 20))
        self.scheduled.append(self._booked(self.personas[2], "done", -30))

    @staticmethod
    def _persona(name: str, words: str, *, system: bool) -> dict[str, Any]:
        return {
            "id": new_id("persona"), "name": name, "description": words, "voice": "house:calm", "language": "en-us",
            "prompt": None if system else "You are an old sea captain. You speak slowly.", "system": system,
            "max_minutes": 15, "flags": [],
        }  # fmt: skip

    @staticmethod
    def _number(number: str, *, proven: bool) -> dict[str, Any]:
        verified = ago(days=30) if proven else None
        told = {"id": new_id("number"), "number": number, "country": "US", "verified_at": verified}
        return told | {"primary": proven, "opted_out": False}

    @staticmethod
    def _method(brand: str, last4: str, *, default: bool = False) -> dict[str, Any]:
        return {
            "id": new_id("method"), "brand": brand, "last4": last4, "expires_month": 4, "expires_year": 2031,
            "default": default, "expired": False,
        }  # fmt: skip

    def _call(self, persona: dict[str, Any], state: str, days: float = 0, seconds: int = 0) -> dict[str, Any]:
        cost = 250_000 + 400_000 * -(-seconds // 60) if seconds else 0
        over = state in ENDED
        return {
            "id": new_id("call"), "state": state, "ended_reason": "caller_hung_up" if over else None,
            "persona": {"id": persona["id"], "name": persona["name"]}, "number": "+1 ••• ••• ••43",
            "direction": "outbound", "scheduled_id": None, "created_at": ago(days=days),
            "answered_at": ago(days=days) if seconds else None, "ended_at": ago(days=days) if over else None,
            "duration_seconds": seconds if over else None, "cost_usd_micros": cost, "hold_usd_micros": 6_250_000,
            "max_minutes": 15, "recording": bool(seconds), "transcript": bool(seconds),
            "message": "You talked; the caller hung up." if seconds else "Nobody answered; nothing was charged.",
        }  # fmt: skip

    def _script(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        words = (
            (
                "bot",
                f"Hello, this is {call['persona']['name']}. I am an AI. May I ask how the talk with your sister went?",
            ),
            ("caller", "We argued about the garden again. I was loud, and I am sorry for it."),
            ("bot", "Being sorry is a beginning. What would you like her to know?"),
        )
        return [
            {
                "number": at,
                "who": who,
                "text": text,
                "at": ago(seconds=60 - at),
                "timings": {"voice_to_voice_ms": 900} if at > 1 else {},
            }
            for at, (who, text) in enumerate(words, 1)
        ]

    @staticmethod
    def _line(kind: str, micros: int, call: dict[str, Any]) -> dict[str, Any]:
        told = {"id": new_id("line"), "at": call["created_at"], "kind": kind, "usd_micros": micros, "currency": "usd"}
        return told | {"call": call["id"], "reason": None}

    def _booked(self, persona: dict[str, Any], state: str, hours: float) -> dict[str, Any]:
        due = ago(hours=-hours)
        return {
            "id": new_id("scheduled"), "persona": {"id": persona["id"], "name": persona["name"]}, "number": None,
            "due_at": due, "zone": "Europe/Istanbul", "local": due[:19], "state": state, "attempt": 1,
            "repeat": {"every": "week", "days": ["sun"]} if hours > 0 else None, "retries": {"busy": 0, "no_answer": 1,
            "voicemail": 0, "spacing_minutes": 10}, "outcome": "completed" if state == "done" else None, "call": None,
            "max_minutes": 15, "note": None,
        }  # fmt: skip

    # What a test does.

    def refuse(self, method: str, path: str, status: int, kind: str, detail: str, **more: Any) -> None:
        """Answer the next request of this path with a problem document."""
        document = {"type": f"https://ringdown.dev/problems/{kind}", "status": status, "detail": detail, **more}
        self.refusals[method, path] = (status, document)

    def tell(self, event: str, data: Any) -> None:
        """Send an event to whoever follows the call."""
        message = f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
        for watcher in self.watchers:
            watcher.put_nowait(message)

    def move(self, state: str, **more: Any) -> dict[str, Any]:
        """Bring the newest call to a state, and say so."""
        call = self.calls[0]
        call.update(state=state, **more)
        self.tell("state", call)
        return call

    def answer(self) -> dict[str, Any]:
        """The newest call is answered."""
        return self.move("in_progress", answered_at=ago())

    def say(self, who: str, text: str) -> None:
        """Somebody says something in the newest call."""
        call = self.calls[0]
        turns = self.turns.setdefault(str(call["id"]), [])
        turn = {"number": len(turns) + 1, "who": who, "text": text, "at": ago(), "timings": {}}
        turns.append(turn)
        self.tell("turn", turn)

    def end(self, state: str = "completed", seconds: int = 61, *, settled: bool = True) -> None:
        """The newest call is over; what it cost is known once it is settled."""
        done = self._call(self.personas[0], state, 0, seconds)
        kept = ("ended_reason", "ended_at", "duration_seconds", "cost_usd_micros", "recording", "transcript", "message")
        told = {name: done[name] for name in kept}
        self.move(state, **told | ({} if settled else {"cost_usd_micros": None}))

    def asked(self, method: str, path: str) -> list[Any]:
        """The bodies of the requests of a path so far."""
        return [body for verb, where, body in self.requests if (verb, where) == (method, path)]

    # What the console is told.

    def app(self) -> web.Application:
        """The application: the console's pages and this API."""
        app = web.Application(middlewares=[self._door])
        app.add_routes(Pages().routes())
        app.add_routes(_routes(self))
        return app

    @web.middleware
    async def _door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        self.served.append(path)
        if not path.startswith("/v1/"):
            return await handler(request)  # type: ignore[no-any-return]
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, path, body))
        self.headers.append(dict(request.headers))
        if refusal := self.refusals.pop((request.method, path), None):
            return problem(*refusal)
        if not is_open(request.method, path):
            if not self.signed_in or self.expired:
                return problem(401, {"type": ".../not-authorised", "detail": "Sign in first."})
            if request.method != "GET" and request.headers.get("X-CSRF") != request.cookies.get("ringdown_csrf", ""):
                return problem(403, {"type": ".../csrf-missing", "detail": "The CSRF token is missing."})
        return await handler(request)  # type: ignore[no-any-return]

    def session(self) -> web.Response:
        """An answer that signs in."""
        self.signed_in, self.expired = True, False
        answer = web.json_response({"access_token": "a", "expires_in": 900, "refresh_token": "r", "user": self.me})
        answer.set_cookie("ringdown_csrf", "csrf-1", samesite="Strict")
        answer.set_cookie("ringdown_access", "a", httponly=True, samesite="Strict")
        return answer


def problem(status: int, document: dict[str, Any]) -> web.Response:
    return web.json_response(document, status=status, content_type="application/problem+json")


def page(items: list[Any], following: str | None = None) -> web.Response:
    return web.json_response({"items": items, "next": following})


OPEN = {"/v1/accounts", "/v1/sessions", "/v1/sessions/refresh", "/v1/oidc", "/v1/prices", "/v1/helplines"}
OPEN_TOO = {"/v1/consents", "/v1/subprocessors", "/v1/retention", "/v1/password-resets", "/v1/password-resets/complete"}


def is_open(method: str, path: str) -> bool:
    """Whether a path needs no session."""
    return (path in OPEN | OPEN_TOO and not (path == "/v1/sessions" and method != "POST")) or path.startswith(
        "/v1/erasures/"
    )


def _routes(api: ConsoleApi) -> list[web.RouteDef]:
    from tests.doubles.console_calls import routes as calls
    from tests.doubles.console_people import routes as people

    return [*people(api), *calls(api)]


@contextlib.asynccontextmanager
async def console(api: ConsoleApi) -> AsyncIterator[str]:
    """The console over this API; yields its address."""
    async with TestServer(api.app()) as server:
        yield str(server.make_url("")).rstrip("/")
