"""A card processor in a box: Stripe's REST API and signed webhooks, with cards that decline and a clock that jumps.

An independent program like the phone network beside it: it imports nothing else of this product. A server is pointed at
it by its Stripe address (`STRIPE_API_URL`), its secret key and its webhook secret. Amounts are cents, as Stripe's are.

    python -m transports.simulator.payments --port P --webhook-url U --webhook-secret whsec_...
        [--host H --secret-key sk_test_double --publishable-key pk_test_double --seed N --fault JSON --until-eof --json]
    prints one line when it is ready: "payments double at URL (control: URL/control)" on standard error, or with --json
    {"url": ..., "control": ..., "secret_key": ..., "publishable_key": ..., "webhook_secret": ...} on standard output

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
        double.dispute(payment: str, reason="fraudulent", amount=None) -> dict;  double.close_dispute(id, "won" | "lost")
        double.state() -> dict                                        # as GET /control/state
        double.requests -> list[dict]                                 # as GET /control/requests
        double.deliveries -> list[dict]                               # as GET /control/webhooks
        await double.delivered(timeout_s=10.0) -> None                # until no webhook is on its way any more
        double.aim(url: str, secret: str | None = None) -> None       # where webhooks go from now on

Control API (JSON in and out; errors are problem documents):

    GET  /control/state        {now, intents: [{id, status, amount, capturable, received, refunded, released, disputed, fees,
                                customer, payment_method, metadata, capture_before, charges: [id], refunds: [id]}],
                                totals: {intents, held, captured, refunded, released, disputed, fees, net},
                                customers, payment_methods, events}
    POST /control/faults       a fault or {faults: [...]} -> {faults}; GET: with how often each struck; DELETE: lift all
        {kind, method?: "POST", path?: "/v1/payment_intents/*/capture" (shell pattern), event?: "charge.*" (webhooks),
         probability?: 0..1, times?: int, after?: int (let so many pass first), ms?: number, status?: 500, done?: bool}
        rest_lost_reply (done, then the connection drops)   rest_error (status; done=true: carried out, then answered so, and
        kept under its idempotency key)   rest_too_many (429)   rest_slow (ms, then done)   rest_hang (never answered; done=true:
        carried out first)   webhook_duplicate   webhook_reorder (after the next one)   webhook_late (ms)   webhook_drop (lost
        for good)   webhook_bad_signature   webhook_stale (signed 301 s ago)
    GET  /control/clock        {now};  POST {advance: seconds} -> {now, expired: [intent ids]}
    GET  /control/cards        every test token;  POST {token | payment_method, setup?, hold?, brand?, last4?} -> the card
        setup, hold: "ok" | "action" (3-D Secure always) | "action_off_session" (only when the customer is away) | a decline
        code ("generic_decline", "insufficient_funds", "lost_card", "expired_card", "incorrect_cvc", "processing_error", ...);
        "token" makes a new test card (then attach or set it up as any), "payment_method" changes a saved one from now on
    POST /control/authenticate {intent: pi_ or seti_, outcome?: "succeed" | "fail"} -> the intent
    POST /control/disputes     {payment: pi_ or ch_, reason?, amount?} -> the dispute;  POST /control/disputes/ID {status}
    GET  /control/requests     [{method, path, key, replayed, status, request_id, fault}] newest last
    GET  /control/webhooks     [{event, type, state: pending|delivered|dropped|given_up, attempts: [{at, status}]}];
                               POST {url, secret?}: aim;  POST /control/webhooks/resend {event}: once more
    POST /control/reset        as new, faults and clock included
"""
