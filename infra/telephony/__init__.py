"""Carriers: placing, ending, redirecting and finding phone calls, apart from whoever carries them."""

from infra.telephony.carrier import (
    AnsweredBy,
    Carrier,
    CarrierBusy,
    CarrierCall,
    CarrierDown,
    CarrierError,
    CarrierRefused,
    OutcomeUnknown,
    Placement,
    answered_by,
    state_of,
)

__all__ = [
    "AnsweredBy",
    "Carrier",
    "CarrierBusy",
    "CarrierCall",
    "CarrierDown",
    "CarrierError",
    "CarrierRefused",
    "OutcomeUnknown",
    "Placement",
    "answered_by",
    "state_of",
]
