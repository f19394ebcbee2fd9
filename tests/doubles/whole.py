"""A gateway with everything behind it that it asks over the network: the phone network and the card processor."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.doubles.front import Front, People, front
from transports.simulator import network
from transports.simulator.payments import double

OPERATOR_TOKEN = "s3cret"


@contextlib.asynccontextmanager
async def whole(database_url: str, **overrides: Any) -> AsyncIterator[Front]:
    """Serve every route for the length of the block; operators need `OPERATOR_TOKEN`, users join as `People`."""
    async with network.serving(network.Config()) as phones, double.serving() as cards:
        settings: dict[str, Any] = {
            "twilio_api_url": phones.url,
            "stripe_api_url": cards.url,
            "stripe_secret_key": cards.config.secret_key,
            "stripe_publishable_key": cards.config.publishable_key,
            "node_operator_token": OPERATOR_TOKEN,
        }
        async with front(database_url, people=People(), **settings | overrides) as gateway:
            yield gateway
