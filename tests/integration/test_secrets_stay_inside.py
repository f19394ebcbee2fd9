"""No answer, page or log line bears a secret of the server's settings."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from infra.settings import load, variables
from infra.telemetry import configure
from tests.doubles.front import DEFAULTS, Front, People, front
from transports.http.routes import operations

HTTP = Path(__file__).parents[2] / "transports" / "http"
MASTER = base64.b64encode(b"planted master key of 32 bytes!!").decode()
ELSEWHERE = {
    "DATABASE_URL",
    "REDIS_URL",
    "TWILIO_AUTH_TOKEN",
    "NODE_OPERATOR_TOKEN",
    "VAULT_MASTER_KEY",
    "MAIL_SMTP_URL",
}
PLANTED = {
    "twilio_auth_token": "planted-twilio-token-4711",
    "node_operator_token": "planted-operator-token-4711",
    "vault_master_key": MASTER,
}


def planted() -> dict[str, Any]:
    """A value of its own for every secret that the settings know."""
    defaults, found = load(environ={}), dict[str, Any](PLANTED)
    for name, path in variables().items():
        value: Any = defaults
        for part in path:
            value = getattr(value, part)
        if isinstance(value, SecretStr) and name not in ELSEWHERE:
            found[name.lower()] = f"planted-{name.lower()}-4711"
    return found


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs meanwhile, at its most talkative."""
    stream = io.StringIO()
    configure(load(environ={}, log_level="debug", **planted()), stream=stream, form="json")
    yield stream
    configure(load(environ={}))


@pytest_asyncio.fixture
async def gateway(database_url: str, log: io.StringIO) -> AsyncIterator[Front]:
    async with front(database_url, people=People(), **planted()) as opened:
        yield opened


async def test_no_answer_and_no_log_line_bears_a_secret(gateway: Front, log: io.StringIO) -> None:
    """COM-35, VD-50: every operation, as nobody, as a user and as an operator; every page; errors, too."""
    secrets = set(planted().values())
    assert len(secrets) > 8
    _, user = await gateway.join()
    operator = {"Authorization": f"Bearer {PLANTED['node_operator_token']}"}
    seen = 0
    for made in operations():
        path = made.path
        for name in made.variables:
            path = path.replace(f"{{{name}}}", f"{name}_{'0' * 32}")
        for headers in ({}, user, operator):
            async with gateway.client.request(made.method, path, headers=headers, allow_redirects=False) as answer:
                told = str(dict(answer.headers))
                if answer.content_type != "text/event-stream":
                    told += await answer.text()
            assert not [secret for secret in secrets if secret in told], f"{made.method} {path}"
            seen += 1
    for page in ("/", "/operator", "/reference", "/healthz", "/readyz", "/console/options.json", "/nowhere"):
        async with gateway.client.get(page) as answer:
            told = await answer.text()
        assert not [secret for secret in secrets if secret in told], page
    assert seen == 3 * len(operations())
    assert not [secret for secret in secrets if secret in log.getvalue()]
    assert DEFAULTS["vault_master_key"] != MASTER


def test_no_file_that_browsers_get_asks_for_a_key() -> None:
    """VD-50: people neither supply nor receive a key of a provider."""
    words = ("secret_key", "api_key", "auth_token", "sk_live", "sk_test_")
    files = [path for path in HTTP.rglob("*") if path.suffix in {".js", ".html", ".css", ".json"}]
    assert len(files) > 8
    wrong = [f"{path}: {word}" for path in files for word in words if word in path.read_text()]
    assert not wrong, "\n".join(wrong)
