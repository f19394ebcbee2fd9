"""The half of the console's fake API that is about people: accounts, numbers, personas, settings, help."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from infra.database.consents import texts
from infra.ids import new_id
from tests.doubles.console_api import CODE, PASSWORD, ConsoleApi, ago, page, problem

HELPLINES = [
    {"country": "US", "name": "988 Suicide and Crisis Lifeline", "number": "988", "hours": "day and night",
     "url": "https://988lifeline.org", "emergency": "911"},
]  # fmt: skip
VOICES = [
    {"id": "house:calm", "name": "Calm", "language": "en-us"},
    {"id": "house:bright", "name": "Bright", "language": "en-gb"},
    {"id": "house:deniz", "name": "Deniz", "language": "tr"},
]
SESSIONS = [
    {"id": "session_1", "agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140", "ip": "203.0.113.9", "current": True},
    {"id": "session_2", "agent": "Mozilla/5.0 (iPhone) Safari/605", "ip": "203.0.113.7", "current": False},
]


def routes(api: ConsoleApi) -> list[web.RouteDef]:
    return [*_accounts(api), *_me(api), *_numbers(api), *_personas(api), *_public(api)]


def _accounts(api: ConsoleApi) -> list[web.RouteDef]:
    async def sign_up(request: web.Request) -> web.Response:
        body = await request.json()
        api.me |= {"email": body["email"], "name": body.get("name", ""), "zone": body["zone"], "adult": body["adult"]}
        api.me["consents"] |= body["consents"]
        answer = api.session()
        answer.set_status(201)
        return answer

    async def sign_in(request: web.Request) -> web.Response:
        if (await request.json())["password"] != PASSWORD:
            return problem(401, {"type": ".../sign-in-refused", "detail": "The e-mail address or password is wrong."})
        return api.session()

    async def renew(_request: web.Request) -> web.Response:
        if not api.signed_in:
            return problem(401, {"type": ".../not-authorised", "detail": "The session is over."})
        api.renewals += 1
        return api.session()

    async def out(_request: web.Request) -> web.Response:
        api.signed_in = False
        return web.Response(status=204)

    async def sessions(_request: web.Request) -> web.Response:
        return page([one | {"created_at": ago(days=2), "seen_at": ago(hours=1)} for one in SESSIONS])

    async def accepted(_request: web.Request) -> web.Response:
        return web.Response(status=202)

    async def done(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    return [
        web.post("/v1/accounts", sign_up),
        web.post("/v1/sessions", sign_in),
        web.post("/v1/sessions/refresh", renew),
        web.get("/v1/sessions", sessions),
        web.delete("/v1/sessions", out),
        web.delete("/v1/sessions/current", out),
        web.delete("/v1/sessions/{session}", done),
        web.post("/v1/password-resets", accepted),
        web.post("/v1/password-resets/complete", done),
    ]


def _me(api: ConsoleApi) -> list[web.RouteDef]:
    async def read(_request: web.Request) -> web.Response:
        return web.json_response(api.me)

    async def change(request: web.Request) -> web.Response:
        api.me |= await request.json()
        return web.json_response(api.me)

    async def adult(_request: web.Request) -> web.Response:
        api.me["adult"] = True
        return web.json_response(api.me)

    async def consent(request: web.Request) -> web.Response:
        body = await request.json()
        api.me["consents"][body["purpose"]] = body["granted"]
        return web.json_response(body, status=201)

    async def factor(_request: web.Request) -> web.Response:
        uri = "otpauth://totp/Ringdown:ada?secret=JBSWY3DPEHPK3PXP"
        return web.json_response({"secret": "JBSWY3DPEHPK3PXP", "uri": uri}, status=201)

    async def password(request: web.Request) -> web.Response:
        if (await request.json())["current"] != PASSWORD:
            document = {"type": ".../wrong-password", "detail": "The current password is wrong.", "field": "current"}
            return problem(422, document)
        return web.Response(status=204)

    async def export(_request: web.Request) -> web.Response:
        return web.json_response({"users": [api.me]})

    async def erase(_request: web.Request) -> web.Response:
        api.signed_in = False
        return web.json_response({"id": "erasure_" + "0" * 32}, status=202)

    async def receipt(request: web.Request) -> web.Response:
        told = {
            "id": request.match_info["erasure"],
            "requested_at": ago(),
            "destroyed_at": ago(),
            "signature": "c2ln" * 16,
        }
        return web.json_response(told)

    return [
        web.get("/v1/me", read),
        web.patch("/v1/me", change),
        web.delete("/v1/me", erase),
        web.post("/v1/me/adult", adult),
        web.post("/v1/me/consents", consent),
        web.post("/v1/me/second-factor", factor),
        web.put("/v1/me/password", password),
        web.post("/v1/me/export", export),
        web.get("/v1/erasures/{erasure}", receipt),
    ]


def _numbers(api: ConsoleApi) -> list[web.RouteDef]:
    def find(request: web.Request) -> dict[str, Any]:
        return next(one for one in api.numbers if one["id"] == request.match_info["number"])

    async def read(_request: web.Request) -> web.Response:
        return page(api.numbers)

    async def add(request: web.Request) -> web.Response:
        made = api._number((await request.json())["number"], proven=False)
        api.numbers.append(made)
        return web.json_response(made, status=201)

    async def verify(request: web.Request) -> web.Response:
        if (await request.json())["code"] != CODE:
            document = {"type": ".../code-wrong", "detail": "That is not the code. Look at it again.", "field": "code"}
            return problem(422, document)
        found = find(request)
        found |= {"verified_at": ago(), "primary": True}
        return web.json_response(found)

    async def drop(request: web.Request) -> web.Response:
        api.numbers.remove(find(request))
        return web.Response(status=204)

    async def allow(request: web.Request) -> web.Response:
        return web.json_response(find(request))

    return [
        web.get("/v1/numbers", read),
        web.post("/v1/numbers", add),
        web.post("/v1/numbers/{number}/verify", verify),
        web.post("/v1/numbers/{number}/opt-in", allow),
        web.delete("/v1/numbers/{number}", drop),
    ]


def _personas(api: ConsoleApi) -> list[web.RouteDef]:
    def find(request: web.Request) -> dict[str, Any]:
        return next(one for one in api.personas if one["id"] == request.match_info["persona"])

    async def read(_request: web.Request) -> web.Response:
        return page(api.personas)

    async def one(request: web.Request) -> web.Response:
        return web.json_response(find(request))

    async def make(request: web.Request) -> web.Response:
        body = await request.json()
        made = api._persona(body["name"], body["description"], system=False) | body
        api.personas.append(made)
        return web.json_response(made, status=201)

    async def change(request: web.Request) -> web.Response:
        found = find(request)
        found |= await request.json()
        return web.json_response(found)

    async def drop(request: web.Request) -> web.Response:
        api.personas.remove(find(request))
        return web.Response(status=204)

    async def copy(request: web.Request) -> web.Response:
        made = find(request) | {"id": new_id("persona"), "system": False, "prompt": "As before."}
        api.personas.append(made)
        return web.json_response(made, status=201)

    async def contacts(_request: web.Request) -> web.Response:
        known = {persona["id"]: persona for persona in api.personas}
        return page([{"persona": known[key], "position": at} for at, key in enumerate(api.contacts)])

    async def star(request: web.Request) -> web.Response:
        api.contacts.append(request.match_info["persona"])
        return web.Response(status=204)

    async def unstar(request: web.Request) -> web.Response:
        api.contacts.remove(request.match_info["persona"])
        return web.Response(status=204)

    async def order(request: web.Request) -> web.Response:
        api.contacts = (await request.json())["order"]
        return web.Response(status=204)

    async def voices(_request: web.Request) -> web.Response:
        return page(VOICES)

    return [
        web.get("/v1/personas", read),
        web.post("/v1/personas", make),
        web.get("/v1/personas/{persona}", one),
        web.patch("/v1/personas/{persona}", change),
        web.delete("/v1/personas/{persona}", drop),
        web.post("/v1/personas/{persona}/copy", copy),
        web.get("/v1/contacts", contacts),
        web.put("/v1/contacts", order),
        web.put("/v1/contacts/{persona}", star),
        web.delete("/v1/contacts/{persona}", unstar),
        web.get("/v1/voices", voices),
    ]


def _public(_api: ConsoleApi) -> list[web.RouteDef]:
    async def helplines(_request: web.Request) -> web.Response:
        return page(HELPLINES)

    async def subprocessors(_request: web.Request) -> web.Response:
        return page([{"name": "Twilio", "purpose": "telephone calls"}])

    async def retention(_request: web.Request) -> web.Response:
        return page([{"data": "voice audio", "kept": "7 days"}, {"data": "transcripts", "kept": "90 days, or less"}])

    async def consents(_request: web.Request) -> web.Response:
        told = [{"purpose": one.purpose, "version": one.version, "text": one.text} for one in texts().values()]
        return web.json_response({"items": told})

    async def providers(_request: web.Request) -> web.Response:
        return page([])

    return [
        web.get("/v1/helplines", helplines),
        web.get("/v1/subprocessors", subprocessors),
        web.get("/v1/retention", retention),
        web.get("/v1/oidc", providers),
        web.get("/v1/consents", consents),
    ]
