-- Calls booked for later, every decision whether a number may be dialled, the do-not-call list, and leases.

create table scheduled_calls (
    id text primary key,
    owner text not null references users,
    state text not null check (state in (
        'proposed', 'pending', 'holding', 'held', 'dialing', 'dialed', 'done', 'missed', 'skipped', 'canceled')),
    persona_id text not null,
    number_id text not null,
    max_minutes int not null check (max_minutes between 1 and 60),
    outside_hours boolean not null default false,  -- the user ticked that this call may fall into the quiet hours
    zone text not null,
    anchor timestamp not null,      -- the wall time that the series was booked for; later ones are counted from it
    local_time timestamp not null,  -- the wall time asked for
    due_at timestamptz not null,    -- the moment that is
    dial_at timestamptz not null,   -- when this attempt is due; later than due_at for a retry
    try_at timestamptz not null,    -- not before: the carrier was away, or said to wait
    repeat jsonb,                   -- null: once
    retries jsonb not null default '{}',
    series text not null,           -- the id of the first call of the series
    ordinal int not null default 1,
    continued boolean not null default false,  -- the next call of the series has been booked
    attempt int not null default 0,
    epoch int not null default 0,   -- fencing: every claim takes the next one
    node text,                      -- who claimed it
    lease_until timestamptz,
    call_id text,                   -- of this attempt; chosen with the claim, before the call's row exists
    outcome text,
    note text,                      -- for the user: why it did not take place
    told boolean not null default false,       -- the user knows that it did not take place
    promised_in text,               -- the call in which it was promised
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    unique (series, ordinal),
    constraint a_claim_has_a_lease check (state not in ('holding', 'dialing') or lease_until is not null),
    constraint a_call_is_chosen_with_the_claim check (
        case when state in ('holding', 'held', 'dialing', 'dialed') then call_id is not null
        when state in ('proposed', 'pending') then call_id is null else true end)
);
create index scheduled_calls_owner on scheduled_calls (owner, due_at desc, id desc);
create index scheduled_calls_pending on scheduled_calls (dial_at) where state = 'pending';
create index scheduled_calls_held on scheduled_calls (try_at) where state = 'held';
create index scheduled_calls_claimed on scheduled_calls (lease_until) where state in ('holding', 'dialing');
create index scheduled_calls_dialed on scheduled_calls (call_id) where state = 'dialed';
create index scheduled_calls_untold on scheduled_calls (changed_at)
    where state in ('missed', 'skipped') and not told;
create index scheduled_calls_repeating on scheduled_calls (due_at) where repeat is not null and not continued;

-- Calls that were prepared and then not dialled, because the booking was changed, cancelled or missed.
create table scheduled_leftovers (
    call_id text primary key,
    owner text not null references users,
    scheduled_id text not null,
    not_before timestamptz not null -- whoever prepares it has stopped by then
);
create index scheduled_leftovers_ripe on scheduled_leftovers (not_before);

create table scheduled_attempts (
    scheduled_id text not null references scheduled_calls (id) on delete cascade,
    attempt int not null,
    epoch int not null,
    node text not null,
    call_id text not null,
    due_at timestamptz not null,
    claimed_at timestamptz not null default now(),  -- the first claim: the carrier's list is read from here on
    dialed_at timestamptz,
    reconciled boolean not null default false,      -- found in the carrier's list instead of told by its answer
    outcome text,
    primary key (scheduled_id, attempt)
);

create table dial_decisions (
    id text primary key,
    at timestamptz not null default now(),
    owner text not null references users,
    number_id text not null,
    digest bytea,                   -- of the number; null when it is nobody's
    stage text not null check (stage in ('hold', 'dial')),
    scheduled_id text,
    call_id text,
    allowed boolean not null,
    code text,                      -- the condition that refused it
    failing text[] not null default '{}',
    facts jsonb not null,
    constraint a_refusal_has_a_code check (allowed = (code is null))
);
create index dial_decisions_attempts on dial_decisions (digest, at) where allowed and stage = 'dial';
create index dial_decisions_owner on dial_decisions (owner, at);

-- The do-not-call list. It names no user, so that it holds on when an account is erased; the last word counts.
create table opt_outs (
    id bigint generated always as identity primary key,
    digest bytea not null,
    stopped boolean not null,       -- false: the person asked for calls again
    channel text not null check (channel in ('voice', 'keypad', 'web', 'sms', 'operator')),
    call_id text,
    at timestamptz not null default now()
);
create index opt_outs_digest on opt_outs (digest, id desc);

-- Who does what only one node may do.
create table leases (
    name text primary key,
    holder text not null,
    epoch int not null,
    until timestamptz not null
);
