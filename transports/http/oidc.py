"""Signing in by another's word, in a browser: away to the provider, and back."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from infra.identity.oidc import FLOW_SECONDS, ProviderDown, ProviderRefused, UnknownProvider
from infra.identity.providers import NAME
from transports.http.api import Ask, operation
from transports.http.people import cookies_of, where_of
from transports.http.problems import Problem, problem_kinds, translate
from transports.http.serving import bake

problem_kinds(
    {
        "oidc-refused": (403, "The provider's answer proves nothing"),
        "provider-not-found": (404, "There is no such provider"),
        "provider-down": (502, "The provider cannot be reached"),
    }
)
translate(UnknownProvider, lambda error: Problem("provider-not-found", f"{UnknownProvider.__doc__}"))
translate(ProviderRefused, lambda error: Problem("oidc-refused", f"{error} Begin again."))
translate(ProviderDown, lambda error: Problem("provider-down", f"{ProviderDown.__doc__}", {"Retry-After": "5"}))

FLOW_COOKIE = "ringdown_oidc"
PROVIDER = {"provider": NAME.pattern}
HOME = "/"
REFUSED = "/#/sign-in?problem=oidc-refused"
Text = Annotated[str, msgspec.Meta(max_length=4096)]


class ProviderView(msgspec.Struct, frozen=True):
    """Somebody whose word counts here."""

    provider: str
    title: str


class ProviderList(msgspec.Struct, frozen=True):
    """Those whose word counts here."""

    items: list[ProviderView]


class Answer(msgspec.Struct):
    """What a provider sends people back with; it may send more, which is passed over."""

    state: Text = ""
    code: Text = ""
    error: Text = ""
    iss: Text = ""


@operation("GET", "/v1/oidc", answers=ProviderList, who="public")
async def list_providers(ask: Ask) -> ProviderList:
    """List by whose word one can sign in."""
    known = ask.services.identity.oidc.providers
    return ProviderList([ProviderView(name, provider.title) for name, provider in known.items()])


@operation(
    "GET",
    "/v1/oidc/{provider}/start",
    status=302,
    refuses=("provider-not-found", "provider-down"),
    who="public",
    limit="auth",
    paths=PROVIDER,
)
async def start_oidc(ask: Ask, provider: str) -> web.Response:
    """Go to a provider to sign in there."""
    oidc = ask.services.identity.oidc
    url, flow = await oidc.start(provider)
    response = web.Response(status=302, headers={"Location": url})
    secure = ask.services.settings.public_url.startswith("https://")
    posted = oidc.providers[provider].response_mode == "form_post"
    response.set_cookie(
        FLOW_COOKIE,
        flow,
        max_age=FLOW_SECONDS,
        path=oidc_path(provider, posted=posted),
        httponly=True,
        secure=secure or posted,
        # The way back begins at the provider's page. Strict cookies stay at home then; with a posted form, lax ones do.
        samesite="None" if posted else "Lax",
    )
    return response


@operation(
    "GET",
    "/v1/oidc/{provider}/callback",
    status=302,
    refuses=("provider-not-found", "oidc-refused", "provider-down"),
    who="public",
    limit="auth",
    paths=PROVIDER,
)
async def finish_oidc(ask: Ask, provider: str, query: Answer) -> web.Response:
    """Come back from a provider, signed in: the cookies are set, and the page follows."""
    return await finish(ask, provider, query)


@operation(
    "POST",
    "/oidc/{provider}/callback",
    status=302,
    refuses=("provider-not-found", "oidc-refused", "provider-down"),
    who="public",
    limit="auth",
    paths=PROVIDER,
    tag="oidc",
)
async def finish_posted_oidc(ask: Ask, provider: str) -> web.Response:
    """Come back from a provider whose page posts its answer as a form."""
    form = await ask.request.post()
    given = {name: value for name, value in form.items() if isinstance(value, str) and name in Answer.__struct_fields__}
    try:
        answer = msgspec.convert(given, Answer)
    except msgspec.ValidationError as error:
        raise ProviderRefused("The answer is too long.") from error
    return await finish(ask, provider, answer)


async def finish(ask: Ask, provider: str, answer: Answer) -> web.Response:
    """Sign in who the provider says it is. A person is led back to the page, a program told what was wrong."""
    identity = ask.services.identity
    told = {name: value for name, value in msgspec.structs.asdict(answer).items() if value}
    posted = ask.request.method == "POST"
    try:
        person = await identity.oidc.finish(provider, ask.request.cookies.get(FLOW_COOKIE, ""), told)
    except ProviderRefused:
        if "text/html" not in ask.request.headers.get("Accept", ""):
            raise
        return gone(provider, REFUSED, posted=posted)
    _, opened = await identity.linking.sign_in(person, where_of(ask))
    response = gone(provider, HOME, posted=posted)
    secure = ask.services.settings.public_url.startswith("https://")
    for cookie in cookies_of(opened):
        bake(response, cookie, secure=secure)
    return response


def gone(provider: str, to: str, *, posted: bool) -> web.Response:
    """On to a page of ours, the flow forgotten."""
    response = web.Response(status=302, headers={"Location": to})
    response.del_cookie(FLOW_COOKIE, path=oidc_path(provider, posted=posted))
    return response


def oidc_path(provider: str, *, posted: bool) -> str:
    """Where the browser sends the flow."""
    return f"{'' if posted else '/v1'}/oidc/{provider}"
