-- Calls that belong to somebody: who pays, who talks, what was agreed. A call without an owner is the operator's.

alter table calls
    add owner text references users,
    add persona_id text,
    add number_id text,            -- the owner's number that is called, or that called us
    add scheduled_id text,         -- the booking this call is an attempt of
    add hold_id text,              -- the money set aside for it
    add max_minutes int check (max_minutes between 1 and 60),
    add transcript_consent boolean not null default false,  -- else what was said is deleted when the call is over
    add dialed_at timestamptz,     -- when its dial was decided; null: it never reached the carrier
    add settled_at timestamptz,    -- captured or released; nothing more is to be paid
    add archived_at timestamptz,   -- what was said is kept as agreed, or gone
    add constraint an_owned_call_has_its_terms check (owner is null or (persona_id is not null and max_minutes is not null));

-- One live call for each user. A call that is prepared for later is none until it is dialled.
create unique index calls_one_live on calls (owner) where ended_at is null
    and not (scheduled_id is not null and state in ('created', 'authorising'));
create index calls_history on calls (owner, created_at desc, id desc) where owner is not null;
create index calls_history_persona on calls (owner, persona_id, created_at desc, id desc) where owner is not null;
create index calls_history_scheduled on calls (scheduled_id, created_at) where scheduled_id is not null;
create index calls_unsettled on calls (ended_at) where owner is not null and settled_at is null;
create index calls_unarchived on calls (ended_at) where owner is not null and archived_at is null;

-- Each dial is an attempt, and each attempt is a call of its own.
create view call_attempts as
    select id, owner, number_id, scheduled_id, persona_id, dialed_at, answered_at, ended_at, state, ended_reason
    from calls where owner is not null and direction = 'outbound' and dialed_at is not null;

-- Numbers of ours that lead to a persona, and who pays for the calls that come in there.
create table lines (
    number text primary key check (number ~ '^\+[1-9][0-9]{6,14}$'),
    owner text not null references users,
    persona_id text not null,
    payer text not null default 'owner' check (payer in ('owner', 'caller')),
    created_at timestamptz not null default now()
);
create index lines_owner on lines (owner);

-- How often somebody was given a helpline: a count by day, and nothing by which anybody could be known.
create table referrals (
    day date not null,
    country text not null,
    language text not null,
    count int not null default 0 check (count >= 0),
    primary key (day, country, language)
);
