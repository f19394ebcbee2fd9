-- Answers to requests that bore an Idempotency-Key, so that the same request again gets the same answer.

create table idempotency_keys (
    owner text not null references users (id) on delete cascade,
    key text not null,
    digest bytea not null,             -- of method, address and body: the same key for another request is refused
    attempt text not null,             -- whose turn it is; a turn that outlived its lease can no longer store an answer
    leased_until timestamptz not null, -- the request is running until then; a crash leaves it to be tried again
    status smallint,                   -- null: not answered yet
    headers jsonb,
    body text,                         -- sealed
    created_at timestamptz not null default now(),
    primary key (owner, key)
);

create index idempotency_keys_by_age on idempotency_keys (created_at);
