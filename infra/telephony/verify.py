"""Proving that somebody holds a phone number: Twilio Verify sends the code and checks it (CMB-01).

https://www.twilio.com/docs/verify/api, version 2, by the `twilio` package over our own client. Twilio keeps the code;
we keep how often it was tried.
"""

from __future__ import annotations

from typing import Literal, Protocol

from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from infra.settings import Settings
from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierRefused, OutcomeUnknown
from infra.telephony.twilio import SERVER_ERROR, RestClient

SendChannel = Literal["sms", "call"]
NOT_PENDING = frozenset({20404, 60200})  # no such verification: expired, approved, or never sent
SPENT = frozenset({60202, 60203})  # of one number: too many tries, too many codes


class Verifier(Protocol):
    """Whoever sends codes to numbers. Every method may raise `CarrierDown`, `CarrierBusy` and `CarrierRefused`."""

    async def start(self, number: str, channel: SendChannel = "sms", language: str = "en") -> str:
        """Send a code; the sender's id of it. A code that is still valid is sent again rather than a new one."""
        ...

    async def check(self, number: str, code: str) -> bool:
        """Whether this is the code that was sent; False when none is valid any more."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class CodesSpent(CarrierBusy):
    """This number was sent, or tried, as many codes as may be for now. Wait ten minutes."""


class TwilioVerifier:
    """One Verify service of a Twilio account.

    Args:
        service: its id, `VA…`.
        api_url: where to send the SDK's requests instead, such as a simulator; empty for Twilio itself.
    """

    def __init__(self, account_sid: str, auth_token: str, service: str, *, api_url: str = "", timeout_s: float) -> None:
        self._http = RestClient(api_url, timeout_s)
        client = Client(account_sid, auth_token, http_client=self._http)
        self._service = client.verify.v2.services(service)
        _ = self._service.verifications, self._service.verification_checks  # loaded on first use otherwise

    async def start(self, number: str, channel: SendChannel = "sms", language: str = "en") -> str:
        try:
            made = await self._service.verifications.create_async(to=number, channel=channel, locale=language)
        except TwilioRestException as error:
            raise _failure(error) from error
        except CarrierBusy as error:
            if error.code in SPENT:
                raise CodesSpent(f"{CodesSpent.__doc__}") from error
            raise
        except (OutcomeUnknown, ValueError) as error:  # to send twice does no harm: the code is the same
            raise CarrierDown(f"the code may not have been sent: {error}") from error
        return str(made.sid)

    async def check(self, number: str, code: str) -> bool:
        try:
            told = await self._service.verification_checks.create_async(to=number, code=code)
        except TwilioRestException as error:
            if error.code in NOT_PENDING:
                return False
            raise _failure(error) from error
        except CarrierBusy as error:
            if error.code in SPENT:
                raise CodesSpent(f"{CodesSpent.__doc__}") from error
            raise
        except (OutcomeUnknown, ValueError) as error:
            raise CarrierDown(f"the code could not be checked: {error}") from error
        return str(told.status) == "approved"

    async def close(self) -> None:
        await self._http.close()


def verifier_of(settings: Settings) -> TwilioVerifier:
    """The verifier that the settings name."""
    twilio = settings.twilio
    return TwilioVerifier(
        twilio.account_sid,
        twilio.auth_token.get_secret_value(),
        twilio.verify_service,
        api_url=twilio.api_url,
        timeout_s=twilio.timeout_seconds,
    )


def _failure(error: TwilioRestException) -> CarrierDown | CarrierRefused:
    if error.status >= SERVER_ERROR:
        return CarrierDown(f"the carrier failed ({error.status}): {error.msg}")
    return CarrierRefused(str(error.msg), status=error.status, code=error.code)
