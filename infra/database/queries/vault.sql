-- Users' data keys, wrapped by the master key.

-- name: open
insert into user_keys (owner, wrapped) values ($1, $2) on conflict (owner) do nothing returning true;

-- name: wrapped
select wrapped from user_keys where owner = $1 and destroyed_at is null;

-- name: destroy
insert into user_keys (owner, wrapped, destroyed_at) values ($1, null, now())
on conflict (owner) do update set wrapped = null, destroyed_at = coalesce(user_keys.destroyed_at, now());
