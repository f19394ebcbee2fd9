-- People: who they are and how they prove it, what they agreed to, and what becomes of their data.

create table users (
    id text primary key,
    email text,                    -- lower case; null once erased
    email_verified_at timestamptz,
    password_hash text,            -- null: signs in by another's word only
    name text not null default '',
    role text not null default 'user' check (role in ('user', 'support', 'moderator', 'operator', 'owner')),
    zone text not null default 'UTC',
    language text not null default 'en',
    adult_at timestamptz,          -- when they said that they are 18 or older
    token_epoch int not null default 0,  -- raised to end every access token at once
    transcript_days int not null default 90 check (transcript_days between 1 and 90),
    totp_sealed text,              -- the second factor's secret
    totp_at timestamptz,           -- when it was confirmed; null: not in use
    totp_step bigint not null default 0,  -- the time step of the last code taken, so that none is taken twice
    created_at timestamptz not null default now(),
    erased_at timestamptz,
    constraint an_erased_user_is_an_id_and_no_more check (erased_at is null or (
        email is null and email_verified_at is null and password_hash is null and name = '' and adult_at is null
        and totp_sealed is null and totp_at is null))
);
-- An address is somebody's once it is proven; until then whoever signs up with it has an account of their own.
create unique index users_email on users (email) where email_verified_at is not null;
create index users_email_unproven on users (email, created_at desc) where email_verified_at is null;

-- Each user's data key, wrapped by the master key. Without it nothing sealed for the user can be read again.
create table user_keys (
    owner text primary key references users,
    wrapped bytea,
    created_at timestamptz not null default now(),
    destroyed_at timestamptz,
    constraint a_destroyed_key_is_gone check ((wrapped is null) = (destroyed_at is not null))
);

-- By whose word else somebody signs in.
create table identities (
    id text primary key,
    owner text not null references users,
    provider text not null,
    issuer text not null,
    subject text not null,
    email text,
    created_at timestamptz not null default now(),
    unique (issuer, subject)
);
create index identities_owner on identities (owner);

create table sessions (
    id text primary key,
    owner text not null references users,
    method text not null,
    second_factor boolean not null default false,
    ip inet,
    agent text not null default '',
    created_at timestamptz not null default now(),
    used_at timestamptz not null default now(),
    idle_until timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    ended_why text,
    constraint an_end_has_a_reason check ((ended_at is null) = (ended_why is null))
);
create index sessions_owner on sessions (owner, created_at desc);

-- Only digests; a token that was used once and comes back ends its session.
create table refresh_tokens (
    digest bytea primary key,
    session text not null references sessions,
    owner text not null references users,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_tokens_session on refresh_tokens (session);
create index refresh_tokens_owner on refresh_tokens (owner);
create unique index refresh_tokens_newest on refresh_tokens (session) where used_at is null;

create table one_time_codes (
    id text primary key,
    owner text not null references users,
    purpose text not null check (purpose in ('email', 'reset')),
    digest bytea not null,
    tries int not null default 0,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    withdrawn_at timestamptz       -- a newer one was sent
);
create index one_time_codes_owner on one_time_codes (owner, purpose);
create index one_time_codes_digest on one_time_codes (digest);

create table numbers (
    id text primary key,
    owner text not null references users,
    sealed text not null,
    digest bytea not null,         -- keyed, so that a number can be found but not read
    country text not null,
    masked text not null,
    tries int not null default 0,
    sends int not null default 0,
    sends_since timestamptz not null default now(),
    code_until timestamptz,
    created_at timestamptz not null default now(),
    verified_at timestamptz,
    removed_at timestamptz
);
create unique index numbers_one_owner on numbers (digest) where verified_at is not null and removed_at is null;
create unique index numbers_once on numbers (owner, digest) where removed_at is null;
create index numbers_digest on numbers (digest);
create index numbers_owner on numbers (owner, verified_at) where removed_at is null;

-- What was agreed to, and withdrawn: the newest row of a purpose holds.
create table consents (
    id text primary key,
    seq bigint generated always as identity,
    owner text not null references users,
    purpose text not null check (purpose in (
        'service', 'calls', 'transcripts', 'recording', 'marketing', 'likeness')),
    granted boolean not null,
    text_version text not null,
    channel text not null check (channel in ('web', 'api', 'voice', 'keypad', 'sms')),
    ip inet,
    at timestamptz not null default now()
);
create index consents_newest on consents (owner, purpose, seq desc);

create table devices (
    id text primary key,
    owner text references users,   -- null until somebody attaches it to an account
    public_key bytea not null unique,
    name text not null default '',
    created_at timestamptz not null default now(),
    attached_at timestamptz,
    seen_at timestamptz,
    revoked_at timestamptz
);
create index devices_owner on devices (owner);

-- Who did what to whose data; each row's hash covers the one before it. It holds ids and no content.
create table audit (
    seq bigint primary key,
    at timestamptz not null,
    actor text not null,
    subject text,
    action text not null,
    context jsonb not null default '{}',
    previous bytea not null,
    hash bytea not null
);
create index audit_subject on audit (subject, seq);

-- Receipts of erasures, chained likewise and signed.
create table erasures (
    id text primary key,
    seq bigint not null unique,
    owner text not null references users,
    requested_at timestamptz not null,
    destroyed_at timestamptz not null,
    document jsonb not null,       -- the receipt as it was signed
    previous bytea not null,
    hash bytea not null,
    signature bytea not null
);
create index erasures_owner on erasures (owner);

-- Mail to send. What is in it is sealed, and gone once it was sent.
create table outbox (
    id text primary key,
    owner text references users,   -- null: to somebody who has no account any more
    kind text not null,
    letter_sealed text not null,
    created_at timestamptz not null default now(),
    due_at timestamptz not null default now(),
    tries int not null default 0,
    sent_at timestamptz,
    failed_at timestamptz,
    error text
);
create index outbox_due on outbox (due_at) where sent_at is null and failed_at is null;
create index outbox_owner on outbox (owner);

create function consents_stand() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and current_setting('ringdown.erasing', true) = old.owner then
        return old;
    end if;
    raise exception 'consents are append-only';
end $$;
create trigger consents_stand before update or delete on consents for each row execute function consents_stand();

create function audit_stands() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and current_setting('ringdown.retention', true) = 'audit' then
        return old;                -- the oldest end of the chain, once its time is over
    end if;
    raise exception '% is append-only', tg_table_name;
end $$;
create trigger audit_stands before update or delete on audit for each row execute function audit_stands();
create trigger erasures_stand before update or delete on erasures for each row execute function audit_stands();

create function audit_hash(previous bytea, seq bigint, at timestamptz, actor text, subject text, action text,
    context jsonb) returns bytea immutable language sql as $$
    select sha256(previous || convert_to(jsonb_build_object(
        'seq', seq, 'at', (extract(epoch from at) * 1000000)::bigint, 'actor', actor, 'subject', subject,
        'action', action, 'context', context)::text, 'UTF8'))
$$;

-- One after the other: the lock is held until the writer's transaction ends.
create function audit_linked() returns trigger language plpgsql as $$
declare
    last record;
begin
    perform pg_advisory_xact_lock(6011021504821);
    select a.seq, a.hash into last from audit a order by a.seq desc limit 1;
    new.seq := coalesce(last.seq, 0) + 1;
    new.at := clock_timestamp();
    new.previous := coalesce(last.hash, '\x');
    new.hash := audit_hash(new.previous, new.seq, new.at, new.actor, new.subject, new.action, new.context);
    return new;
end $$;
create trigger audit_linked before insert on audit for each row execute function audit_linked();

-- Whose rows lie where: `owner` or `user_id` says it outright; a table with neither belongs to its parent's owner.
create view owned_tables as
    select c.table_name::text as relation, min(c.column_name::text) as owner_column
    from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'public' and t.table_type = 'BASE TABLE' and c.column_name in ('owner', 'user_id')
    group by c.table_name;

create view owned_parts as
    select child.relname::text as relation, inner_column.attname::text as part_column,
        parent.relname::text as parent, outer_column.attname::text as parent_column
    from pg_constraint link
    join pg_class child on child.oid = link.conrelid
    join pg_class parent on parent.oid = link.confrelid
    join pg_attribute inner_column on inner_column.attrelid = link.conrelid and inner_column.attnum = link.conkey[1]
    join pg_attribute outer_column on outer_column.attrelid = link.confrelid and outer_column.attnum = link.confkey[1]
    where link.contype = 'f' and cardinality(link.conkey) = 1 and child.relnamespace = 'public'::regnamespace
        and child.relname::text not in (select relation from owned_tables)
        and parent.relname::text in (select relation from owned_tables);

create function owned_rows(rel text, who text) returns setof jsonb language plpgsql stable as $$
declare
    mine text := (select owner_column from owned_tables where relation = rel);
    part owned_parts := (select p from owned_parts p where p.relation = rel limit 1);
begin
    if mine is not null then
        return query execute format('select to_jsonb(t) from %I t where t.%I = $1', rel, mine) using who;
    elsif part.parent is not null then
        mine := (select owner_column from owned_tables where relation = part.parent);
        return query execute format('select to_jsonb(t) from %I t join %I p on t.%I = p.%I where p.%I = $1',
            rel, part.parent, part.part_column, part.parent_column, mine) using who;
    else
        raise exception 'nobody owns rows of %', rel;
    end if;
end $$;

create function erase_rows(rel text, who text) returns bigint language plpgsql as $$
declare
    mine text := (select owner_column from owned_tables where relation = rel);
    part owned_parts := (select p from owned_parts p where p.relation = rel limit 1);
    gone bigint;
begin
    if mine is not null then
        execute format('delete from %I t where t.%I = $1', rel, mine) using who;
    elsif part.parent is not null then
        mine := (select owner_column from owned_tables where relation = part.parent);
        execute format('delete from %I t using %I p where t.%I = p.%I and p.%I = $1',
            rel, part.parent, part.part_column, part.parent_column, mine) using who;
    else
        raise exception 'nobody owns rows of %', rel;
    end if;
    get diagnostics gone = row_count;
    return gone;
end $$;
