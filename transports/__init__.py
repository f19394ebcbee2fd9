"""The ways in and out: HTTP, Twilio, hand-off, the simulator."""
