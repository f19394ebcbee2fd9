"""A phone network in a box: Twilio's REST calls resource, webhooks, TwiML and Media Streams, with callers that speak.

An independent program: it imports nothing else of this product and reaches a server only by its public address.
`docs/simulator.md` tells how to use it; `python -m transports.simulator --help` lists the switches.
"""
