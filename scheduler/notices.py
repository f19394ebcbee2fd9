"""Letters to people whose booked calls did not take place."""

from __future__ import annotations

from infra.database.pool import Database
from infra.database.schedule_records import Told
from infra.mail import Letter, Mail

KIND = "scheduled-call"
TEXT = """Hello,

the call {persona}that you had booked for {day} at {time} ({zone}) did not take place.

{note}

You were not charged for it. You can book another one under Schedule.
"""


class Notices:
    """Puts a letter for each into the outbox, in the transaction that notes it."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail

    async def tell(self, told: Told, connection: Database) -> None:
        """Write to the owner; somebody who has no address any more is not written to."""
        if told.email is None:
            return
        text = TEXT.format(
            persona=f"from {told.persona} " if told.persona else "",
            day=f"{told.local_time:%A}, {told.local_time.day} {told.local_time:%B}",
            time=f"{told.local_time:%H:%M}",
            zone=told.zone,
            note=told.note or "We do not know why.",
        )
        letter = Letter(told.email, "Your scheduled call did not take place", text)
        await self._mail.put(told.owner, KIND, letter, database=connection)
