-- Requests that may be sent again: infra/database/idempotency.py.

-- name: begin
-- Takes the key if it is new, has expired, or the same request began and never ended. No row: somebody else has it.
insert into idempotency_keys as k (owner, key, digest, attempt, leased_until)
values ($1, $2, $3, $4, now() + $5::interval)
on conflict (owner, key) do update
set digest = excluded.digest,
    attempt = excluded.attempt,
    leased_until = excluded.leased_until,
    status = null,
    headers = null,
    body = null,
    created_at = case when k.created_at < now() - $6::interval then now() else k.created_at end
where k.created_at < now() - $6::interval
   or (k.status is null and k.leased_until < now() and k.digest = excluded.digest)
returning attempt;

-- name: read
select digest, status, headers, body, greatest(0, extract(epoch from leased_until - now()))::float8 as lease_seconds
from idempotency_keys
where owner = $1 and key = $2;

-- name: finish
update idempotency_keys
set status = $4, headers = $5, body = $6
where owner = $1 and key = $2 and attempt = $3 and status is null
returning attempt;

-- name: forget
delete from idempotency_keys where owner = $1 and key = $2 and attempt = $3 and status is null;

-- name: expire
delete from idempotency_keys where created_at < now() - $1::interval;
