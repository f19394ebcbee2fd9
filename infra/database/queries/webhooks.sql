-- The inbox of providers' webhooks: stored once, acknowledged, then applied (COM-46).

-- name: store
insert into webhooks (provider, key, body) values ($1, $2, $3::jsonb)
on conflict (provider, key) do nothing
returning id;

-- name: unapplied
select id, provider, key, received_at, body, attempts from webhooks
where applied_at is null and provider = $1 and attempts < $3
order by id limit $2;

-- name: applied
update webhooks set applied_at = now(), attempts = attempts + 1, last_error = null where id = $1;

-- name: failed
update webhooks set attempts = attempts + 1, last_error = $2 where id = $1;
