-- What is known of the schema's own steps.

-- name: create table
create table if not exists migrations (
    number integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);

-- name: lock
select pg_advisory_lock($1::bigint);

-- name: unlock
select pg_advisory_unlock($1::bigint);

-- name: applied
select number, name, checksum, applied_at from migrations order by number;

-- name: insert
insert into migrations (number, name, checksum) values ($1, $2, $3);

-- name: delete
delete from migrations where number = $1;
