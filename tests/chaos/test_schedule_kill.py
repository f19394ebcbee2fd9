"""Schedulers are killed while calls fall due and the carrier loses answers: each call is dialled exactly once."""

from __future__ import annotations

import pytest

from tests.bench.schedule import Trial, trial

pytestmark = pytest.mark.heavy


@pytest.mark.timeout(400)
async def test_a_thousand_due_calls_over_three_nodes_and_twelve_kills_are_a_thousand_dials() -> None:
    """COM-21, CMB-34: 5 % lost answers, 5 % server errors, a list that lags; 0 duplicate, 0 lost."""
    found = await trial(Trial(calls=1000, rate=60, kills=12, lost=0.05, errors=0.05, lag=0.2))
    assert found.kills == 12
    assert found.faults["lost"] > 10
    assert found.faults["error_before"] > 5
    assert found.faults["error_after"] > 5
    assert found.reconciled > 10
    assert (found.duplicate, found.lost) == (0, 0)
    assert found.rows == {"dialed": 1000}
    assert min(found.late_ms) >= -1, "no call is dialled before its time"
