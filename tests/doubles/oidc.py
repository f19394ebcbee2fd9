"""Issuers that say who somebody is: one of OpenID Connect, one of plain OAuth 2.0, each with its lies to order."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT, SECRET = "ringdown-test", "the client's secret"


@dataclass
class Grant:
    """A code that was handed out."""

    redirect_uri: str
    challenge: str
    nonce: str


@dataclass
class Issuer:
    """An OpenID Connect issuer. Everybody who comes is `person`; `lies` change the claims of its tokens."""

    person: dict[str, Any] = field(default_factory=lambda: {"sub": "p1", "email": "ada@example.com", "name": "Ada"})
    verified: Any = True
    lies: dict[str, Any] = field(default_factory=dict)
    signs_with: str = "RS256"
    foreign_key: bool = False  # sign with a key that is not published
    names_key: str | None = None
    refuses: str = ""
    url: str = ""
    keys_asked: int = 0
    described_as: str = ""
    grants: dict[str, Grant] = field(default_factory=dict)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    _other: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    kid: str = "key-1"

    def rotate(self) -> None:
        """Sign with another key from now on, and publish that one only."""
        self._key, self.kid = self._other, "key-2"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/.well-known/openid-configuration", self._describe),
            web.get("/authorize", self._authorize),
            web.post("/token", self._token),
            web.get("/keys", self._keys),
        ]

    async def _describe(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.described_as or self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        told = {"state": asked["state"]}
        if self.refuses:
            told["error"] = self.refuses
        else:
            told["code"] = code = secrets.token_urlsafe(16)
            self.grants[code] = Grant(asked["redirect_uri"], asked["code_challenge"], asked.get("nonce", ""))
        return web.Response(status=302, headers={"Location": f"{asked['redirect_uri']}?{urlencode(told)}"})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        grant = self.grants.pop(str(form.get("code")), None)  # a code works once
        challenge = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        good = (
            grant is not None
            and form.get("redirect_uri") == grant.redirect_uri
            and base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() == grant.challenge
            and (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        )
        if grant is None or not good:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(self._answer(grant))

    def _answer(self, grant: Grant) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 3600,
            "nonce": grant.nonce,
            "email_verified": self.verified,
            **self.person,
            **self.lies,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        key: Any = self._other if self.foreign_key else self._key
        kid = self.names_key or self.kid
        if self.signs_with == "RS256":
            token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})
        else:
            token = self._unsigned({"alg": self.signs_with, "kid": kid, "typ": "JWT"}, claims)
        return {"id_token": token, "access_token": "not used", "token_type": "Bearer"}

    def _unsigned(self, head: dict[str, Any], claims: dict[str, Any]) -> str:
        """A token without a signature, or with the public key taken for a shared secret."""
        token = b".".join(base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=") for part in (head, claims))
        secret = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signature = hmac.digest(secret, token, "sha256") if head["alg"] == "HS256" else b""
        return (token + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

    async def _keys(self, _request: web.Request) -> web.Response:
        self.keys_asked += 1
        public = msgspec.json.decode(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return web.json_response({"keys": [public | {"kid": self.kid, "use": "sig", "alg": "RS256"}]})


@dataclass
class Hub(Issuer):
    """A plain OAuth 2.0 server, as GitHub is one: an access token, a record of the person, a list of addresses."""

    person: dict[str, Any] = field(default_factory=lambda: {"id": 4711, "login": "ada", "name": "Ada"})
    emails: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"email": "old@example.com", "verified": True, "primary": False},
            {"email": "ada@example.com", "verified": True, "primary": True},
        ]
    )

    def routes(self) -> list[web.RouteDef]:
        return [*super().routes(), web.get("/user", self._user), web.get("/user/emails", self._emails)]

    def _answer(self, grant: Grant) -> dict[str, Any]:
        return {"access_token": "hub-token", "token_type": "bearer"}

    async def _user(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer hub-token"
        return web.json_response(self.person)

    async def _emails(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer hub-token"
        return web.json_response(self.emails)


@contextlib.asynccontextmanager
async def serving(issuer: Issuer) -> AsyncIterator[Issuer]:
    """The issuer at `issuer.url` for the length of the block."""
    app = web.Application()
    app.add_routes(issuer.routes())
    async with TestServer(app) as server:
        issuer.url = str(server.make_url("")).rstrip("/")
        yield issuer


def write_providers(folder: Path, *, issuer: Issuer | None = None, hub: Issuer | None = None) -> Path:
    """A file of providers that names these."""
    text = ""
    if issuer is not None:
        text += f'[company]\ntitle = "Company"\nissuer = "{issuer.url}"\n' + client()
    if hub is not None:
        text += f'[hub]\npreset = "github"\nissuer = "{hub.url}"\n' + client()
        text += f'authorization_url = "{hub.url}/authorize"\ntoken_url = "{hub.url}/token"\n'
        text += f'person_url = "{hub.url}/user"\nemails_url = "{hub.url}/user/emails"\n'
    path = folder / "providers.toml"
    path.write_text(text)
    return path


def client() -> str:
    return f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'


def asked_of(url: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def apple_key() -> ec.EllipticCurvePrivateKey:
    """A key as Apple gives out for signing the client's secret."""
    return ec.generate_private_key(ec.SECP256R1())
