"""Who is asking: what a verified access token or the operator's token proves."""

from __future__ import annotations

from dataclasses import dataclass

OPERATORS = frozenset({"operator", "owner"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose identity has been verified for this request.

    Args:
        user_id: `user_…`; empty for a holder of the operator token, who is no user and owns nothing.
        role: as in `users.role`; what they may do beyond what is their own.
        session_id: the session or device whose token this was; empty for the operator token.
        scopes: what a token of limited use may do; empty: everything that its user may.
    """

    user_id: str
    role: str = "user"
    session_id: str = ""
    scopes: frozenset[str] = frozenset()

    @property
    def is_operator(self) -> bool:
        """Whether they may see and end what belongs to others."""
        return self.role in OPERATORS


OPERATOR = Principal("", "operator")
