-- Everything that is somebody's: found in the catalogue, read for them, deleted for good.

-- name: owned
select relation from owned_tables order by relation;

-- name: parts
select relation, parent from owned_parts order by relation, parent;

-- name: links
-- Which table refers to which.
select distinct child.relname::text as child, parent.relname::text as parent
from pg_constraint link
join pg_class child on child.oid = link.conrelid
join pg_class parent on parent.oid = link.confrelid
where link.contype = 'f' and child.relnamespace = 'public'::regnamespace and child.oid <> parent.oid;

-- name: tables
select table_name::text as relation from information_schema.tables
where table_schema = 'public' and table_type = 'BASE TABLE' order by 1;

-- name: rows
select owned_rows($1, $2) as row;

-- name: profile
select to_jsonb(u) as row from users u where id = $1;

-- name: audited
select to_jsonb(a) as row from audit a where subject = $1 order by seq;

-- name: booked
select to_jsonb(t) as row from ledger_transactions t where party = $1 order by id;

-- name: booked lines
select to_jsonb(e) as row from ledger_entries e where party = $1 order by transaction_id, line;

-- name: unfinished
-- What must end first: a call under way, money that is set aside.
select (select count(*) from calls where owner = $1 and ended_at is null
        and not (scheduled_id is not null and state in ('created', 'authorising')))
    + (select count(*) from holds where owner = $1 and state in ('intent', 'held', 'capturing', 'releasing')) as open;

-- name: hold fast
select id from users where id = $1 and erased_at is null for update;

-- name: begin
select set_config('ringdown.erasing', $1, true);

-- name: recordings
select recording_path from calls where owner = $1 and recording_path is not null;

-- name: erase
select erase_rows($1, $2);

-- name: disown costs
-- What a call cost us is ours; whose call it was is not.
update costs set owner = null, call_id = null where owner = $1;

-- name: empty user
update users set email = null, email_verified_at = null, password_hash = null, name = '', role = 'user', zone = 'UTC',
    language = 'en', adult_at = null, token_epoch = token_epoch + 1, totp_sealed = null, totp_at = null,
    erased_at = now()
where id = $1;

-- name: lately erased
select id from users where erased_at > $1;

-- name: lock chain
select pg_advisory_xact_lock(6011021504822);

-- name: last receipt
select seq, hash from erasures order by seq desc limit 1;

-- name: keep receipt
insert into erasures (id, seq, owner, requested_at, destroyed_at, document, previous, hash, signature)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9);

-- name: receipt
select document, hash, signature from erasures where id = $1;

-- name: receipts
select id, seq, document, previous, hash, signature from erasures order by seq;

-- name: clock
select clock_timestamp();
