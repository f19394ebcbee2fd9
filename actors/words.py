"""The words of a call: sealed with its owner's key before they are written down, readable only where they are said."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from infra.database.call_records import Turn
from infra.vault import Vault, VaultError

log = structlog.get_logger()
TEXT, SPOKEN = "call_turns.text", "call_turns.spoken"  # what the columns are sealed for


class Words:
    """Seals and unseals what is said in one call.

    Args:
        vault: None where nothing is sealed.
        owner: of the call; None: it is the operator's, and its words are written as they are.
    """

    def __init__(self, vault: Vault | None = None, owner: str | None = None) -> None:
        self._vault, self._owner = vault, owner

    async def seal(self, text: str, place: str) -> str:
        """As it is written into the column `place`; nothing stays nothing.

        Raises:
            KeyDestroyed: the owner's data was erased; write nothing.
        """
        if self._vault is None or self._owner is None or not text:
            return text
        return await self._vault.seal(self._owner, text, place)

    async def unseal(self, text: str, place: str) -> str:
        """What was written.

        Raises:
            VaultError
        """
        if self._vault is None or self._owner is None or not text:
            return text
        return await self._vault.unseal(self._owner, text, place)

    async def read(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """Turns in plain; one that cannot be read any more is left out."""
        plain: list[Turn] = []
        for turn in turns:
            try:
                text, spoken = await self.unseal(turn.text, TEXT), await self.unseal(turn.spoken, SPOKEN)
            except VaultError as error:
                log.warning("turn_unreadable", number=turn.number, error=str(error))
                continue
            plain.append(msgspec.structs.replace(turn, text=text, spoken=spoken))
        return tuple(plain)
