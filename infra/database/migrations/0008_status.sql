-- Whether the service could be used: probes summed up by day, and the times when it could not.

create table uptime (
    part text not null,
    day date not null,
    good int not null default 0,   -- probes that found it ready
    bad int not null default 0,
    last_at timestamptz not null,
    primary key (part, day)
);

create table incidents (
    id text primary key,
    part text not null,
    node text not null,            -- whose probes saw it; not shown to the public
    cause text not null,
    opened_at timestamptz not null,
    closed_at timestamptz check (closed_at >= opened_at)
);
create unique index incidents_open on incidents (part, node) where closed_at is null;
create index incidents_recent on incidents (opened_at desc);
