"""The card processor as a whole, in a test's own process or served."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from . import cards, charges, control, disputes, lifecycle, rest, setups
from .cards import Card, CardError
from .errors import Thing
from .faults import Faults, parse
from .idempotency import Keys
from .store import Store
from .totals import totals
from .webhooks import Patience, Webhooks

_KEPT_REQUESTS: Final = 20_000
_LONGEST_JUMP_S: Final = 400 * 86_400


@dataclass(frozen=True)
class Config:
    """One processor: who may call it, and whom it tells."""

    webhook_url: str = ""
    webhook_secret: str = "whsec_double"  # noqa: S105  # nothing real is behind it
    secret_key: str = "sk_test_double"  # noqa: S105
    publishable_key: str = "pk_test_double"
    seed: int = 0
    retry_s: float = 0.2
    retry_most_s: float = 5.0
    attempts: int = 16


class Double:
    """The processor's state, and what a test may do to it. The package's docstring tells the shapes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.url = ""  # where it listens, once it does
        self.closing = asyncio.Event()
        self.faults = Faults(config.seed)
        self.keys = Keys()
        self.webhooks = Webhooks(self.faults, Patience(config.retry_s, config.retry_most_s, config.attempts))
        self.store = Store(told=self.webhooks.send)
        self._requests: deque[dict[str, Any]] = deque(maxlen=_KEPT_REQUESTS)
        self.aim(config.webhook_url, config.webhook_secret)

    @property
    def now(self) -> int:
        """Its clock, Unix seconds."""
        return self.store.now

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked of it, newest last."""
        return list(self._requests)

    @property
    def deliveries(self) -> list[dict[str, Any]]:
        """Every event on its way to the server, oldest first."""
        return self.webhooks.records()

    async def delivered(self, timeout_s: float = 10.0) -> None:
        """Wait until no webhook is on its way.

        Raises:
            TimeoutError: one still is.
        """
        async with asyncio.timeout(timeout_s):
            await self.webhooks.delivered()

    def aim(self, url: str, secret: str | None = None) -> None:
        """Where webhooks go from now on, retries included."""
        self.webhooks.url = url
        if secret is not None:
            self.webhooks.secret = secret

    def inflict(self, *faults: Mapping[str, Any]) -> None:
        """Put faults in force.

        Raises:
            FaultError: one has no meaning.
        """
        for fault in [parse(each) for each in faults]:
            self.faults.add(fault)

    def lift(self) -> None:
        """No faults any more."""
        self.faults.clear()

    def advance(self, seconds: float) -> list[str]:
        """Put the clock forward; the intents whose hold expired on the way.

        Raises:
            ValueError: time does not run backwards.
        """
        if not 0 <= seconds <= _LONGEST_JUMP_S:
            raise ValueError(f"advance lies between 0 and {_LONGEST_JUMP_S} seconds.")
        self.store.clock.ahead_s += seconds
        return self.catch_up()

    def catch_up(self) -> list[str]:
        """Do what was due by now; the intents whose hold has expired."""
        charges.settle(self.store)
        return lifecycle.expire(self.store)

    def card(self, behaviour: Mapping[str, Any]) -> dict[str, Any]:
        """Make a test card, or change how a saved one behaves.

        Raises:
            CardError: it cannot be made so.
        """
        manners = dict(behaviour)
        token, method = manners.pop("token", None), manners.pop("payment_method", None)
        if (token is None) == (method is None):
            raise CardError("Give either token or payment_method.")
        name = token if method is None else method
        if not isinstance(name, str) or not name:
            raise CardError("token and payment_method are strings.")
        if method is None:
            card = cards.changed(self.store.tokens.get(name, Card()), manners)
            self.store.tokens[name] = card
            return {"token": name} | vars(card)
        if name not in self.store.cards:
            raise CardError(f"There is no payment method {name}.")
        if strange := set(manners) & {"brand", "last4", "funding", "country"}:
            raise CardError(f"What is printed on a saved card stays: {', '.join(sorted(strange))}.")
        self.store.cards[name] = cards.changed(self.store.cards[name], manners)
        return {"payment_method": name} | vars(self.store.cards[name])

    def authenticate(self, intent: str, outcome: str = "succeed") -> Thing:
        """End 3-D Secure of an intent that waits for it.

        Raises:
            ApiError: it does not exist or does not wait.
            ValueError: the outcome is neither "succeed" nor "fail".
        """
        if outcome not in ("succeed", "fail"):
            raise ValueError("outcome is succeed or fail.")
        proven = outcome == "succeed"
        self.catch_up()
        if intent.startswith("seti_"):
            found = self.store.find("setup_intent", intent, "intent", 404)
            return copy.deepcopy(setups.authenticated(self.store, found, proven=proven))
        found = self.store.find("payment_intent", intent, "intent", 404)
        return copy.deepcopy(lifecycle.authenticated(self.store, found, proven=proven))

    def dispute(self, payment: str, reason: str = "fraudulent", amount: int | None = None) -> Thing:
        """The cardholder's bank takes a payment back.

        Raises:
            ApiError: there is no such payment, or nothing in it to dispute.
            ValueError: the reason is none of Stripe's.
        """
        if reason not in disputes.REASONS:
            raise ValueError(f"reason is one of {', '.join(disputes.REASONS)}.")
        identity = payment
        if payment.startswith("pi_"):
            identity = self.store.find("payment_intent", payment, "payment", 404)["latest_charge"] or ""
        charge = self.store.find("charge", identity, "payment", 404)
        whole = charge["amount_captured"] if amount is None else amount
        return copy.deepcopy(disputes.open_dispute(self.store, charge, reason, whole))

    def close_dispute(self, dispute: str, status: str) -> Thing:
        """The bank has decided.

        Raises:
            ApiError: there is no such dispute, or it is over.
            ValueError: the status is neither "won" nor "lost".
        """
        if status not in ("won", "lost"):
            raise ValueError("status is won or lost.")
        found = self.store.find("dispute", dispute, "dispute", 404)
        return copy.deepcopy(disputes.end_dispute(self.store, found, status))

    def state(self) -> dict[str, Any]:
        """Every intent with what was held, captured and returned, and all of it together."""
        self.catch_up()
        return totals(self.store)

    def note(self, request: dict[str, Any]) -> None:
        """Remember a request."""
        self._requests.append(request)

    def reset(self) -> None:
        """As new."""
        self.faults.clear()
        self.keys.clear()
        self.webhooks.forget()
        self.store = Store(told=self.webhooks.send)
        self._requests.clear()
        self.aim(self.config.webhook_url, self.config.webhook_secret)


DOUBLE: Final = web.AppKey("DOUBLE", Double)


def payments_app(config: Config | None = None) -> web.Application:
    """The API and the control API as an application; `app[DOUBLE]` is its state."""
    app = web.Application()
    double = Double(config or Config())
    app[DOUBLE] = double

    async def alive(app: web.Application) -> AsyncIterator[None]:
        await double.webhooks.start()
        yield
        await double.webhooks.stop()

    async def closing(app: web.Application) -> None:
        double.closing.set()

    app.cleanup_ctx.append(alive)
    app.on_shutdown.append(closing)
    control.mount(app, double)
    rest.mount(app, double)
    return app


@contextlib.asynccontextmanager
async def serving(config: Config | None = None, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Double]:
    """A processor that answers at `double.url` while the context lasts; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    app = payments_app(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        double = app[DOUBLE]
        double.url = f"http://{host}:{runner.addresses[0][1]}"
        yield double
    finally:
        await runner.cleanup()
