"""When the caller speaks and when they have finished: voice activity, turn decision, barge-in."""
