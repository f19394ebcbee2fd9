"""A card processor in a box: Stripe's REST API and signed webhooks, with cards that decline and a clock that jumps.

An independent program like the phone network beside it: it imports nothing else of this product. A server is pointed
at it by its Stripe address (`STRIPE_API_URL`), its secret key and its webhook secret. Amounts are cents, as Stripe's.

    python -m transports.simulator.payments --port P --webhook-url U --webhook-secret whsec_...
        [--host H --secret-key sk_test_double --publishable-key pk_test_double --seed N --fault JSON --until-eof --json]
    prints one line when it is ready: "payments double at URL (control: URL/control)" on standard error, or, with
    --json, {"url", "control", "secret_key", "publishable_key", "webhook_secret"} on standard output

In a test's own process:

    from transports.simulator.payments.double import DOUBLE, Config, Double, payments_app, serving

    Config(webhook_url="", webhook_secret="whsec_double", secret_key="sk_test_double",
           publishable_key="pk_test_double", seed=0, retry_s=0.2, retry_most_s=5.0, attempts=16)      # frozen
    payments_app(config: Config | None = None) -> web.Application     # app[DOUBLE] is its Double
    async with serving(config, host="127.0.0.1", port=0) as double:   # double.url once it listens
        double.inflict(*faults: Mapping) -> None                      # as POST /control/faults
        double.lift() -> None                                         # no faults any more
        double.advance(seconds: float) -> list[str]                   # the intents whose hold expired on the way
        double.now -> int                                             # its clock, Unix seconds
        double.card(behaviour: Mapping) -> dict                       # as POST /control/cards
        double.authenticate(intent: str, outcome="succeed") -> dict   # "succeed" or "fail": 3-D Secure is over
        double.dispute(payment: str, reason="fraudulent", amount=None) -> dict
        double.close_dispute(dispute: str, status: "won" | "lost") -> dict
        double.state() -> dict                                        # as GET /control/state
        double.requests -> list[dict]                                 # as GET /control/requests
        double.deliveries -> list[dict]                               # as GET /control/webhooks
        await double.delivered(timeout_s=10.0) -> None                # until no webhook is on its way any more
        double.aim(url: str, secret: str | None = None) -> None       # where webhooks go from now on

Control API (JSON in and out; errors are problem documents):

    GET  /control/state      {now, intents: [{id, status, amount, capturable, received, refunded, released, disputed,
                              fees, customer, payment_method, metadata, capture_before, charges: [id],
                              refunds: [id]}], totals: {intents, held, captured, refunded, released, disputed, fees,
                              net}, customers, payment_methods, events}
    POST /control/faults     a fault or {faults: [...]} -> {faults}; GET: and how often each struck; DELETE: lift all
        {kind, method?: "POST", path?: "/v1/payment_intents/*/capture" (shell pattern), event?: "charge.*" (webhooks),
         probability?: 0..1, times?: int, after?: int (let so many pass first), ms?: number, status?: 500, done?: bool}
        rest_lost_reply (carried out, then the connection drops)       rest_too_many (429, not carried out)
        rest_error (status, not carried out; with done carried out, answered so, and kept under its idempotency key)
        rest_slow (ms, then carried out)     rest_hang (never answered; with done carried out first)
        webhook_duplicate     webhook_reorder (after the next one)     webhook_late (ms)     webhook_drop (for good)
        webhook_bad_signature     webhook_stale (signed 301 s ago)
    GET  /control/clock      {now};  POST {advance: seconds} -> {now, expired: [intent ids]}
    GET  /control/cards      every test token;  POST {token | payment_method, setup?, hold?, brand?, last4?} -> card
        "token" makes a new test card, to be attached or set up as any other; "payment_method" changes a saved one from
        now on. setup, hold: "ok" | "action" (3-D Secure always) | "action_off_session" (only when the customer is
        away) | "action_on_session" | "action_unless_set_up" | a decline code ("generic_decline", "insufficient_funds",
        "lost_card", "expired_card", "incorrect_cvc", "processing_error", ...) | "action+DECLINE_CODE"
    POST /control/authenticate  {intent: pi_ or seti_, outcome?: "succeed" | "fail"} -> the intent
    POST /control/disputes   {payment: pi_ or ch_, reason?, amount?} -> the dispute;  /control/disputes/ID {status}
    GET  /control/requests   [{method, path, key, replayed, status, request_id, fault}], newest last
    GET  /control/webhooks   [{event, type, state: pending | delivered | dropped | given_up, attempts: [{at, status}]}]
                             POST {url, secret?}: aim;  POST /control/webhooks/resend {event}: once more
    POST /control/reset      as new, faults and clock included

What surprises people about the real one, and is so here:

    `payment_method_types` is no parameter any more (version endive: 400 `payment_method_types_no_longer_supported`);
    one gives `allowed_payment_method_types=["card"]` or `automatic_payment_methods`, not both.
    Without either `allowed_payment_method_types=["card"]` or `automatic_payment_methods[allow_redirects]=never` a
    confirmation needs `return_url`, also when the customer is away.
    `statement_descriptor` is refused for cards; `statement_descriptor_suffix` is theirs.
    A card that is declined everywhere (pm_card_chargeDeclined) is already declined when it is attached or set up; one
    that is declined only when held is pm_card_chargeCustomerFail, or any that /control/cards made so.
    A partial capture releases the rest as a refund: it counts in the charge's `amount_refunded` and is in the list of
    refunds (`balance_transaction` null: no money moved). So is a hold that is canceled. The money truly returned is
    the sum of the refunds that have a `balance_transaction`.
    A decline is an answer: its 402 is kept under the idempotency key and replayed. Another try needs another key.
    A hold lasts 7 days, or 4 days 18 hours on a Visa card whose holder is away; `capture_before` of the charge tells.
"""
