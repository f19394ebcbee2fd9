"""Cerebras through its own SDK.

The SDK builds, signs and sends the request and types the failures. Its retries are off, since the chain
decides what happens after a failure, and so is its warming of connections, which would block the event loop
for a round trip. The body of the stream is read by our own reader: the SDK's models validate every chunk
several times over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
from cerebras.cloud.sdk import APIConnectionError, APIStatusError, AsyncCerebras, CerebrasError

from bots.models.port import BadReply, Delta, ModelError, Request, Unreachable, from_status
from bots.models.wire import ReplyReader, body

CONNECT_S = 2.0
_TIMEOUT = httpx.Timeout(None, connect=CONNECT_S)  # deadlines are the chain's
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=60.0)


class CerebrasModel:
    """Cerebras' chat completions.

    Args:
        url: the address without a version, such as `https://api.cerebras.ai`.
    """

    def __init__(self, *, url: str, key: str, model: str, name: str = "cerebras") -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._model = model
        # Made here, not in the first turn: reading certificates takes 50 ms, in which no call is served.
        self._client = AsyncCerebras(
            api_key=key,
            base_url=self._url,
            max_retries=0,
            warm_tcp_connection=False,
            http_client=httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT, limits=_LIMITS),
        )
        self._create = self._client.chat.completions.with_streaming_response.create

    def describe(self) -> str:
        return f"{self.name} {self._model} at {self._url}"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        reader = ReplyReader(self.name)
        try:
            async with self._create(**body(request, self._model), timeout=_TIMEOUT) as response:
                async for data in response.iter_bytes():
                    for delta in reader.feed(data):
                        yield delta
                    if reader.finished:
                        return
                for delta in reader.end():
                    yield delta
        except ModelError:
            raise
        except (CerebrasError, httpx.HTTPError, OSError) as error:
            raise self._typed(error) from error

    async def aclose(self) -> None:
        await self._client.close()

    def _typed(self, error: Exception) -> ModelError:
        if isinstance(error, APIStatusError):
            return from_status(error.status_code, error.message, error.response.headers, self.name)
        if isinstance(error, APIConnectionError | httpx.HTTPError | OSError):
            cause = error.__cause__ or error
            return Unreachable(f"{type(cause).__name__}: {cause}", provider=self.name)
        return BadReply(str(error), provider=self.name)
