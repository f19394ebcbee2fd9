-- Who speaks on a call, whom people keep at hand, and what past conversations are found by.
-- On a database of your own, pgvector must be there: a superuser runs this line once, or has done so before.
create extension if not exists vector;

create table personas (
    id text primary key,
    owner text references users,   -- null: one of the system's, which everybody may call and copy
    slug text,                     -- of a system persona: its file in bots/personas
    version int not null default 1,
    name text not null,
    description text not null default '',
    voice text not null default '',
    voice_withdrawn_at timestamptz,  -- the voice can no longer be had; calls speak with the server's own
    prompt text,                   -- of a system persona
    prompt_sealed text,            -- of a user's own
    language text not null default 'en-us',
    max_minutes int not null default 15 check (max_minutes between 1 and 60),
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    removed_at timestamptz,
    constraint a_persona_is_the_systems_or_somebodys check ((owner is null) = (slug is not null)),
    constraint a_users_prompt_is_sealed check (
        case when owner is null then prompt is not null and prompt_sealed is null
        else prompt is null and (prompt_sealed is null) = (removed_at is not null) end)
);
create index personas_owner on personas (owner, id) where removed_at is null;
create index personas_voice on personas (voice) where owner is not null and removed_at is null;
create unique index personas_slug on personas (slug) where owner is null;

-- A user's persona as a call found it, for the length of the call: later edits do not reach it.
create table persona_snapshots (
    persona_id text not null references personas on delete cascade,
    version int not null,
    owner text not null references users,
    name text not null,
    description text not null,
    voice text not null,
    prompt_sealed text not null,
    language text not null,
    max_minutes int not null,
    taken_at timestamptz not null default now(),
    primary key (persona_id, version)
);
create index persona_snapshots_owner on persona_snapshots (owner);
create index persona_snapshots_taken on persona_snapshots (taken_at);

create table contacts (
    owner text not null references users,
    persona_id text not null references personas on delete cascade,
    position int not null,
    created_at timestamptz not null default now(),
    primary key (owner, persona_id)
);
create index contacts_order on contacts (owner, position, persona_id);
create index contacts_persona on contacts (persona_id);

-- What was said, by turns. The text is sealed; it is found by the vector of its meaning and by keyed digests of its
-- words. A search goes through one person's signatures, all of which lie in the index, and compares the vectors of the
-- nearest; half precision keeps a vector in its row.
create table passages (
    call_id text not null references calls (id) on delete cascade,
    number int not null,           -- of the turn
    owner text not null references users,
    who text not null check (who in ('caller', 'bot')),
    at timestamptz not null,
    text_sealed text not null,
    model text not null,           -- what made the vector; vectors of two models are never compared
    embedding halfvec(512) not null,
    signature bit(512),            -- on which side of 512 planes the vector lies
    words tsvector not null,
    primary key (call_id, number)
);
create index passages_owner on passages (owner, model) include (call_id, number, signature);
create index passages_words on passages using gin (words);
alter table passages alter column embedding set storage plain;
alter table passages alter column text_sealed set storage external;
