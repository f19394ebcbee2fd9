"""Signing in by another's word: authorization code with PKCE, state and nonce (RFC 6749, 7636, 9700; OpenID Connect).

What must survive the way to the provider and back is sealed into a cookie of the browser that began, so nobody can make
another browser end it, and any node can.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import jwt
import msgspec

from infra.identity.providers import ALGORITHMS, Provider, Providers, is_safe
from infra.vault import SERVER, Vault, VaultError

CONTEXT = "oidc.flow"
FLOW_SECONDS = 600
DISCOVERY = "/.well-known/openid-configuration"
DESCRIBED_SECONDS = 3600.0
KEYS_SECONDS = 600.0
NEW_KEYS_SECONDS = 30.0  # a token with an unknown key has the keys read again, but not more often
LEEWAY_SECONDS = 30
ANSWER_BYTES = 512 * 1024
SECRET_SECONDS = 300
DEADLINE = aiohttp.ClientTimeout(total=10.0)


class UnknownProvider(Exception):
    """Nobody of this name may say who somebody is. GET /v1/oidc lists who may."""


class ProviderRefused(Exception):
    """The provider's answer does not prove who somebody is. Begin again."""


class ProviderDown(Exception):
    """The provider cannot be reached. Try again shortly, or sign in another way."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who the provider says it is. `email` is None unless the provider has verified it."""

    provider: str
    issuer: str
    subject: str
    email: str | None
    name: str


class Flow(msgspec.Struct, frozen=True):
    """What is kept in the browser between the start and the end."""

    provider: str
    state: str
    nonce: str
    verifier: str
    until: float


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked."""

    authorization: str
    token: str
    keys: str


class Oidc:
    """Sends people to providers, and reads what comes back. Close it when the server stops.

    Args:
        public_url: ours, for the address people are sent back to.
        clock: wall time in seconds.
    """

    def __init__(
        self, providers: Providers, vault: Vault, public_url: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.providers, self._vault, self._url, self._clock = providers.by_name, vault, public_url, clock
        self._session: aiohttp.ClientSession | None = None
        self._described: dict[str, tuple[Endpoints, float]] = {}
        self._keys: dict[str, tuple[jwt.PyJWKSet, float]] = {}

    async def start(self, name: str) -> tuple[str, str]:
        """The provider's address to go to, and the sealed flow for the browser to keep.

        Raises:
            UnknownProvider, ProviderDown
        """
        provider = self._provider(name)
        endpoints = await self._endpoints(provider)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(name, state, nonce, verifier, self._clock() + FLOW_SECONDS)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self.return_url(name),
            "scope": " ".join(provider.scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if provider.kind == "oidc":
            asked["nonce"] = nonce
        if provider.response_mode != "query":
            asked["response_mode"] = provider.response_mode
        sealed = await self._vault.seal(SERVER, msgspec.json.encode(flow).decode(), CONTEXT)
        joint = "&" if "?" in endpoints.authorization else "?"
        return f"{endpoints.authorization}{joint}{urlencode(asked)}", sealed

    async def finish(self, name: str, sealed: str, answer: Mapping[str, str]) -> Person:
        """Who it is, by the parameters that the provider sent the browser back with.

        Raises:
            ProviderRefused: a parameter, the state, or the token is not as it must be.
            UnknownProvider, ProviderDown
        """
        provider = self._provider(name)
        flow = await self._flow(name, sealed)
        if not secrets.compare_digest(flow.state.encode(), answer.get("state", "").encode()):
            raise ProviderRefused("The state is not ours.")
        if "error" in answer:
            raise ProviderRefused("The provider, or the person there, said no.")
        if answer.get("iss", provider.issuer) != provider.issuer:  # RFC 9207: another provider's answer
            raise ProviderRefused("The answer is another issuer's.")
        code = answer.get("code", "")
        if not code:
            raise ProviderRefused("There is no code.")
        endpoints = await self._endpoints(provider)
        tokens = await self._exchange(provider, endpoints, name, code, flow.verifier)
        if provider.kind == "oidc":
            claims = await self._claims(provider, endpoints, str(tokens.get("id_token", "")), flow.nonce)
            return _of_claims(name, provider, claims)
        return await self._ask_person(name, provider, str(tokens.get("access_token", "")))

    def return_url(self, name: str) -> str:
        """Where the provider sends people back to; it must be registered there.

        A form that a provider's page posts to us comes from a foreign origin, which may ask nothing under /v1.
        """
        posted = self._provider(name).response_mode == "form_post"
        return f"{self._url}{'' if posted else '/v1'}/oidc/{name}/callback"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _provider(self, name: str) -> Provider:
        provider = self.providers.get(name)
        if provider is None:
            raise UnknownProvider(f"{UnknownProvider.__doc__}")
        return provider

    async def _flow(self, name: str, sealed: str) -> Flow:
        try:
            flow = msgspec.json.decode(await self._vault.unseal(SERVER, sealed, CONTEXT), type=Flow)
        except (VaultError, msgspec.DecodeError) as error:
            raise ProviderRefused("This browser began no sign-in.") from error
        if flow.provider != name or flow.until < self._clock():
            raise ProviderRefused("The sign-in was begun too long ago, or with another provider.")
        return flow

    async def _endpoints(self, provider: Provider) -> Endpoints:
        given = Endpoints(provider.authorization_url, provider.token_url, provider.keys_url)
        if provider.kind == "oauth2" or all((given.authorization, given.token, given.keys)):
            return given
        known = self._described.get(provider.issuer)
        if known is not None and known[1] > self._clock():
            return known[0]
        told = await self._ask("GET", provider.issuer.rstrip("/") + DISCOVERY)
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        urls = [told.get(name) for name in names]
        if told.get("issuer") != provider.issuer or not all(isinstance(url, str) and is_safe(url) for url in urls):
            raise ProviderDown("The issuer's description of itself is not as it must be.")
        authorization, token, keys = (str(url) for url in urls)
        found = Endpoints(given.authorization or authorization, given.token or token, given.keys or keys)
        self._described[provider.issuer] = found, self._clock() + DESCRIBED_SECONDS
        return found

    async def _exchange(
        self, provider: Provider, endpoints: Endpoints, name: str, code: str, verifier: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.return_url(name),
            "client_id": provider.client_id,
            "client_secret": self._secret(provider),
            "code_verifier": verifier,
        }
        told = await self._ask("POST", endpoints.token, form={name: value for name, value in form.items() if value})
        if "error" in told:  # GitHub says so with 200
            raise ProviderRefused("The provider does not take its own code.")
        return told

    async def _claims(self, provider: Provider, endpoints: Endpoints, token: str, nonce: str) -> dict[str, Any]:
        """What an ID token says (OpenID Connect Core section 3.1.3.7)."""
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in ALGORITHMS:
                raise ProviderRefused("The ID token is signed in a way that proves nothing.")
            key = await self._key(endpoints.keys, head.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[head["alg"]],
                audience=provider.client_id,
                issuer=provider.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "aud", "sub", "exp", "iat"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ProviderRefused(f"The ID token is not good: {error}.") from error
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != provider.client_id:
            raise ProviderRefused("The ID token was made for another.")
        given = claims.get("nonce")
        if not isinstance(given, str) or not secrets.compare_digest(given.encode(), nonce.encode()):
            raise ProviderRefused("The ID token answers another sign-in.")
        return claims

    async def _key(self, url: str, kid: object) -> jwt.PyJWK:
        known = self._keys.get(url)
        age = None if known is None else self._clock() - known[1]
        if known is None or age is None or age > KEYS_SECONDS or (age > NEW_KEYS_SECONDS and not _of_id(known[0], kid)):
            known = jwt.PyJWKSet.from_dict(await self._ask("GET", url)), self._clock()
            self._keys[url] = known
        key = _of_id(known[0], kid)
        if key is None:
            raise ProviderRefused("The ID token is signed with a key that the issuer does not have.")
        return key

    async def _ask_person(self, name: str, provider: Provider, token: str) -> Person:
        if not token:
            raise ProviderRefused("There is no access token.")
        told = await self._ask("GET", provider.person_url, token=token)
        subject = told.get(provider.subject_field)
        if not isinstance(subject, str | int) or subject == "":
            raise ProviderRefused("The provider does not say who it is.")
        email = None
        if provider.emails_url:
            listed = await self._ask("GET", provider.emails_url, token=token)
            email = _verified(listed.get("items", []))
        return Person(name, provider.issuer, str(subject), email, _name(told))

    async def _ask(
        self, method: str, url: str, *, form: Mapping[str, str] | None = None, token: str = ""
    ) -> dict[str, Any]:
        """A JSON object; a list comes as `items`. 4xx is a refusal, everything else that fails is being away."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=DEADLINE)
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            async with self._session.request(method, url, data=form, headers=headers, allow_redirects=False) as reply:
                raw = await _read(reply)
                if 400 <= reply.status < 500 and reply.status != 429:
                    raise ProviderRefused(f"The provider answered {reply.status}.")
                if reply.status != 200:
                    raise ProviderDown(f"The provider answered {reply.status}.")
                told = msgspec.json.decode(raw)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ProviderDown(f"The provider cannot be understood: {type(error).__name__}.") from error
        if isinstance(told, list):
            return {"items": told}
        if not isinstance(told, dict):
            raise ProviderDown("The provider answered no object.")
        return told

    def _secret(self, provider: Provider) -> str:
        """The client's secret; Apple wants one that we sign ourselves."""
        if not provider.private_key_file:
            return provider.client_secret
        now = int(self._clock())
        claims = {
            "iss": provider.team_id,
            "iat": now,
            "exp": now + SECRET_SECONDS,
            "aud": provider.issuer,
            "sub": provider.client_id,
        }
        key = Path(provider.private_key_file).read_text()
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": provider.key_id})


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    raw = b""
    async for chunk in reply.content.iter_any():
        raw += chunk
        if len(raw) > ANSWER_BYTES:
            raise ProviderDown("The provider's answer is too long.")
    return raw


def _of_id(keys: jwt.PyJWKSet, kid: object) -> jwt.PyJWK | None:
    """The key of this id; a set of one key needs none."""
    if kid is None:
        return keys.keys[0] if len(keys.keys) == 1 else None
    return next((key for key in keys.keys if key.key_id == kid), None)


def _of_claims(name: str, provider: Provider, claims: Mapping[str, Any]) -> Person:
    email, verified = claims.get("email"), claims.get("email_verified")
    good = isinstance(email, str) and "@" in email and (verified is True or verified == "true")  # Apple says the word
    return Person(name, provider.issuer, str(claims["sub"]), str(email) if good else None, _name(claims))


def _verified(listed: Any) -> str | None:
    """The primary one of the verified addresses, or any."""
    good = [
        one for one in listed if isinstance(one, dict) and one.get("verified") is True and "@" in str(one.get("email"))
    ]
    good.sort(key=lambda one: one.get("primary") is not True)
    return str(good[0]["email"]) if good else None


def _name(told: Mapping[str, Any]) -> str:
    name = told.get("name")
    return name[:60] if isinstance(name, str) else ""
