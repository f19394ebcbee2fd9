-- What calls cost and who paid: prices, cards, holds, the double-entry ledger, refunds, costs, limits, provider events.
--
-- The ledger is the books: it names people by their id only (`party`, not `owner`), nothing in it is ever changed, and
-- it outlives their accounts. Everything else of a person's has a column `owner` and goes with them.
-- Amounts are millionths of a dollar; what is charged to a card is in whole cents.

create table prices (
    id text primary key,
    product text not null,
    since timestamptz not null,
    call_usd_micros bigint not null check (call_usd_micros >= 0 and call_usd_micros % 10000 = 0),
    minute_usd_micros bigint not null check (minute_usd_micros >= 0 and minute_usd_micros % 10000 = 0),
    currency text not null default 'usd' check (currency = 'usd'),
    unique (product, since)
);
insert into prices (id, product, since, call_usd_micros, minute_usd_micros)
values ('price_call_1', 'call', '2026-01-01', 250000, 400000);

-- What a provider asks of us for `per` units; list prices, to be replaced by what was agreed.
create table cost_rates (
    id text primary key,
    provider text not null,
    model text not null default '',
    unit text not null,
    per bigint not null check (per > 0),
    usd_micros bigint not null check (usd_micros >= 0),
    since timestamptz not null,
    unique (provider, model, unit, since)
);
insert into cost_rates (id, provider, model, unit, per, usd_micros, since) values
    ('rate_twilio_1', 'twilio', '', 'call_second', 60, 14000, '2026-01-01'),
    ('rate_twilio_2', 'twilio', '', 'stream_second', 60, 4000, '2026-01-01'),
    ('rate_twilio_3', 'twilio', '', 'detection', 1, 7500, '2026-01-01'),
    ('rate_deepgram_1', 'deepgram', 'nova-3', 'heard_second', 60, 7700, '2026-01-01'),
    ('rate_cerebras_1', 'cerebras', 'gpt-oss-120b', 'token_in', 1000000, 350000, '2026-01-01'),
    ('rate_cerebras_2', 'cerebras', 'gpt-oss-120b', 'token_out', 1000000, 750000, '2026-01-01'),
    ('rate_openai_1', 'openai', 'gpt-4o-mini', 'token_in', 1000000, 150000, '2026-01-01'),
    ('rate_openai_2', 'openai', 'gpt-4o-mini', 'token_out', 1000000, 600000, '2026-01-01'),
    ('rate_elevenlabs_1', 'elevenlabs', 'eleven_flash_v2_5', 'character', 1000, 50000, '2026-01-01'),
    ('rate_stripe_1', 'stripe', '', 'capture', 1, 300000, '2026-01-01'),
    ('rate_stripe_2', 'stripe', '', 'captured_usd_micros', 1000, 29, '2026-01-01'),
    ('rate_own_1', 'own', 'compute', 'core_second', 3600, 40000, '2026-01-01');

create table customers (
    owner text primary key,
    provider_ref text not null unique,
    created_at timestamptz not null default now()
);

create table payment_methods (
    id text primary key,
    owner text not null,
    provider_ref text not null,
    brand text not null,
    last4 text not null,
    expires_month int not null,
    expires_year int not null,
    is_default boolean not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz
);
create unique index payment_methods_kept on payment_methods (provider_ref) where removed_at is null;
create unique index payment_methods_default on payment_methods (owner) where is_default and removed_at is null;
create index payment_methods_owner on payment_methods (owner, created_at) where removed_at is null;

create table holds (
    id text primary key,
    owner text not null,
    call_id text not null,
    state text not null default 'intent' check (state in (
        'intent', 'held', 'declined', 'capturing', 'captured', 'releasing', 'released')),
    amount_usd_micros bigint not null check (amount_usd_micros > 0),
    max_minutes int not null check (max_minutes > 0),
    price_id text not null references prices (id),
    customer text not null,        -- the processor's ids
    method text not null,
    provider_ref text unique,
    capture_usd_micros bigint,     -- what we decided to take
    captured_usd_micros bigint not null default 0,
    refunded_usd_micros bigint not null default 0,  -- and what is being given back
    capture_before timestamptz,
    why text,                      -- of its end
    attempt int not null default 1,
    day date not null,             -- whose limit it counts against
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    verified_at timestamptz,       -- when its end was last found to be the processor's too
    constraint never_more_than_was_held check (
        captured_usd_micros between 0 and amount_usd_micros and capture_usd_micros between 1 and amount_usd_micros),
    constraint never_more_than_was_paid check (refunded_usd_micros between 0 and captured_usd_micros),
    constraint paid_when_captured check ((state = 'captured') = (captured_usd_micros > 0)),
    constraint known_when_held check (state in ('intent', 'declined') or provider_ref is not null)
);
create unique index holds_one_for_a_call on holds (call_id) where state not in ('declined', 'released');
create index holds_call on holds (call_id, created_at desc);
create index holds_owner on holds (owner, created_at desc);
create index holds_unfinished on holds (changed_at) where state in ('intent', 'held', 'capturing', 'releasing');
create index holds_unverified on holds (changed_at) where state = 'captured' and verified_at is null;
create index holds_created on holds (created_at);

-- Whatever a program asks: a hold moves forward only, is captured once, and is what it was made for.
create function holds_move() returns trigger language plpgsql as $$
begin
    if old.state is distinct from new.state and (old.state || '>' || new.state) not in (
        'intent>held', 'intent>declined',
        'held>capturing', 'held>releasing', 'held>captured', 'held>released',
        'capturing>captured', 'capturing>released', 'releasing>released', 'releasing>captured')
    then
        raise exception 'hold % cannot go from % to %', new.id, old.state, new.state;
    end if;
    if (old.owner, old.call_id, old.amount_usd_micros, old.price_id, old.day)
        is distinct from (new.owner, new.call_id, new.amount_usd_micros, new.price_id, new.day)
        or (old.provider_ref is not null and old.provider_ref is distinct from new.provider_ref)
        or (old.capture_usd_micros is not null and old.capture_usd_micros is distinct from new.capture_usd_micros)
        or (old.captured_usd_micros > 0 and old.captured_usd_micros is distinct from new.captured_usd_micros)
    then
        raise exception 'what hold % is for does not change', new.id;
    end if;
    return new;
end $$;
create trigger holds_move before update on holds for each row execute function holds_move();

create table ledger_transactions (
    id text primary key,
    key text not null unique,      -- what it books; nothing is booked twice
    kind text not null check (kind in ('held', 'released', 'captured', 'refunded', 'refund_failed')),
    party text not null,
    hold_id text not null,
    call_id text not null,
    refund_id text,
    usd_micros bigint not null check (usd_micros > 0),
    currency text not null default 'usd' check (currency = 'usd'),
    reason text,
    at timestamptz not null default now(),
    made_in xid8 not null default pg_current_xact_id(),
    unique (id, made_in)
);
create index ledger_transactions_party on ledger_transactions (party, id desc);

create table ledger_entries (
    transaction_id text not null,
    line smallint not null,
    party text not null,
    account text not null check (account in ('held', 'owed', 'processor', 'revenue', 'refunds')),
    currency text not null default 'usd' check (currency = 'usd'),
    usd_micros bigint not null check (usd_micros <> 0),  -- debit is positive
    made_in xid8 not null default pg_current_xact_id(),
    primary key (transaction_id, line),
    -- with its transaction or not at all: what is booked cannot be added to later
    foreign key (transaction_id, made_in) references ledger_transactions (id, made_in)
);
create index ledger_entries_party on ledger_entries (party, account);

create function ledger_stands() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name;
end $$;
create trigger ledger_stands before update or delete or truncate on ledger_transactions
    for each statement execute function ledger_stands();
create trigger ledger_stands before update or delete or truncate on ledger_entries
    for each statement execute function ledger_stands();
create trigger prices_stand before update or truncate on prices for each statement execute function ledger_stands();

create function ledger_balances() returns trigger language plpgsql as $$
declare
    lines int;
    unbalanced int;
begin
    select coalesce(sum(n), 0), count(*) filter (where total <> 0) into lines, unbalanced
    from (
        select count(*) as n, sum(usd_micros) as total from ledger_entries
        where transaction_id = new.id group by currency
    ) as by_currency;
    if lines < 2 or unbalanced > 0 then
        raise exception 'ledger transaction % does not balance', new.id;
    end if;
    return null;
end $$;
-- Entries come with their transaction, so it is enough to look at each transaction once, when all is written.
create constraint trigger ledger_balances after insert on ledger_transactions
    deferrable initially deferred for each row execute function ledger_balances();

create table refunds (
    id text primary key,
    hold_id text not null references holds (id) on delete cascade,
    owner text not null,
    key text not null,
    usd_micros bigint not null check (usd_micros > 0 and usd_micros % 10000 = 0),
    state text not null default 'pending' check (state in ('pending', 'succeeded', 'failed')),
    reason text not null,
    actor text not null,
    rule text not null,
    provider_ref text unique,
    attempt int not null default 1,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    unique (hold_id, key)
);
create index refunds_pending on refunds (changed_at) where state = 'pending';
create index refunds_owner on refunds (owner, created_at desc);

create table costs (
    id text primary key,
    at timestamptz not null default now(),
    owner text,
    call_id text,
    product text not null,
    feature text not null,
    provider text not null,
    model text not null,
    unit text not null,
    quantity double precision not null check (quantity >= 0),
    usd_micros bigint not null check (usd_micros >= 0),
    key text unique                -- of what was metered; nothing is counted twice
);
create index costs_call on costs (call_id);
create index costs_owner on costs (owner, at desc);
create index costs_at on costs (at);

-- The newest row of an owner is its limit: a person, everybody (*) or the whole system. None is ever changed.
create table spend_caps (
    id text primary key,
    owner text not null,
    usd_micros bigint not null check (usd_micros >= 0),
    actor text not null,
    reason text not null,
    at timestamptz not null default now()
);
create index spend_caps_owner on spend_caps (owner, id desc);

create table spend_days (
    owner text not null,
    day date not null,
    usd_micros bigint not null,
    primary key (day, owner)
);

create table inbox (
    provider text not null,
    event_id text not null,
    kind text not null,
    payload jsonb not null,
    state text not null default 'received' check (state in ('received', 'done', 'dead')),
    attempts int not null default 0,
    error text,
    received_at timestamptz not null default now(),
    next_at timestamptz not null default now(),
    done_at timestamptz,
    primary key (provider, event_id)
);
create index inbox_waiting on inbox (next_at) where state = 'received';
create index inbox_received on inbox (received_at desc);

create function inbox_told() returns trigger language plpgsql as $$
begin
    perform pg_notify('inbox', new.provider);
    return null;
end $$;
create trigger inbox_told after insert on inbox for each row execute function inbox_told();
