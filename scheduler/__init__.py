"""When things happen: due calls, callbacks, retention, reconciliation."""
