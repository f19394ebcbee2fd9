-- Calls, what happened to them, what was said in them; the nodes that take calls.

create table calls (
    id text primary key,
    direction text not null check (direction in ('inbound', 'outbound', 'web')),
    state text not null default 'created' check (state in (
        'created', 'authorising', 'dialing', 'ringing', 'in_progress', 'ending',
        'completed', 'busy', 'no_answer', 'voicemail', 'failed', 'canceled', 'rejected')),
    ending_reason text,            -- why we began to end it; the end itself is not confirmed yet
    ended_reason text,             -- why it ended; written once, with the terminal state
    persona text not null,
    from_number text not null,
    to_number text not null,
    carrier_sid text unique,
    node text,                     -- who holds the call's media, null when nobody does
    host text,
    epoch int not null default 0,  -- fencing: every claim takes the next one
    ticket int not null default 0,          -- the newest ticket issued
    ticket_claimed int not null default 0,  -- the newest ticket used
    seq int not null default 0,    -- of the latest event
    state_seq int not null default 0,  -- of the event that made the state
    turns int not null default 0,  -- number of the latest turn
    flow jsonb not null default '{}',
    options jsonb not null default '{}',
    recording_consent boolean,     -- null until the person was asked and answered
    recording_path text,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    answered_at timestamptz,
    ended_at timestamptz,
    media_seen_at timestamptz,     -- when its host last said that it still holds the call
    situation text not null generated always as (  -- what a transition depends on
        state || case when answered_at is null then ':unanswered:' else ':answered:' end || coalesce(ending_reason, '')
    ) stored,
    constraint one_end check (
        (state in ('completed', 'busy', 'no_answer', 'voicemail', 'failed', 'canceled', 'rejected'))
        = (ended_reason is not null)
        and (ended_reason is null) = (ended_at is null)),
    constraint a_fault_never_completes check (state <> 'completed' or ended_reason in (
        'caller_hung_up', 'bot_hung_up', 'operator', 'api', 'time_limit', 'idle', 'opted_out'))
);
create index calls_live on calls (created_at) where ended_at is null;
create index calls_recent on calls (created_at desc);

create table call_events (
    call_id text not null references calls (id) on delete cascade,
    seq int not null,
    epoch int not null,
    at timestamptz not null default now(),
    kind text not null,
    data jsonb not null default '{}',
    dedup text,                    -- the carrier's own key of the event
    primary key (call_id, seq)
);
create unique index call_events_dedup on call_events (call_id, dedup) where dedup is not null;

create table call_turns (
    call_id text not null references calls (id) on delete cascade,
    number int not null check (number > 0),
    epoch int not null,
    who text not null check (who in ('caller', 'bot')),
    text text not null,            -- heard from the caller, or what the bot decided to say
    spoken text not null default '',  -- how much of it the caller was sent
    done boolean not null,
    timings jsonb not null default '{}',
    at timestamptz not null default now(),
    primary key (call_id, number)
);

create table nodes (
    name text primary key,
    url text not null,
    pid int not null,
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now()
);

-- Every change is heard on the channel 'calls', whoever writes it.
create function call_event_told() returns trigger language plpgsql as $$
begin
    perform pg_notify('calls', json_build_object('call', new.call_id, 'kind', new.kind, 'seq', new.seq)::text);
    return null;
end $$;
create trigger call_event_told after insert on call_events for each row execute function call_event_told();

create function call_turn_told() returns trigger language plpgsql as $$
begin
    perform pg_notify('calls', json_build_object('call', new.call_id, 'kind', 'turn', 'seq', new.number)::text);
    return null;
end $$;
create trigger call_turn_told after insert or update on call_turns for each row execute function call_turn_told();

create function call_events_stand() returns trigger language plpgsql as $$
begin
    raise exception 'call_events is append-only';
end $$;
create trigger call_events_stand before update on call_events for each row execute function call_events_stand();
