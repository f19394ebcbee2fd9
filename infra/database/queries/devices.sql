-- Devices that prove themselves by a key.

-- name: register
insert into devices (id, public_key, name) values ($1, $2, $3)
on conflict (public_key) do nothing
returning id, owner, name, created_at, attached_at;

-- name: standing
select public_key from devices where id = $1 and revoked_at is null;

-- name: seen
-- Each proof is later than the last, so none is taken twice.
update devices set seen_at = $2
where id = $1 and revoked_at is null and (seen_at is null or seen_at < $2)
returning id, owner, name, created_at, attached_at;

-- name: attach
update devices set owner = $2, attached_at = now()
where id = $1 and owner is null and revoked_at is null
returning id, owner, name, created_at, attached_at;

-- name: of owner
select id, owner, name, created_at, attached_at from devices
where owner = $1 and revoked_at is null order by created_at desc, id desc;

-- name: revoke
update devices set revoked_at = now() where owner = $1 and id = $2 and revoked_at is null returning id;
