-- One-time codes. Only keyed digests are kept; a new one withdraws those before it.

-- name: one at a time
-- Of two that are made at once, the second sees the first, and withdraws it.
select id from users where id = $1 for no key update;

-- name: withdraw
update one_time_codes set withdrawn_at = now()
where owner = $1 and purpose = $2 and used_at is null and withdrawn_at is null;

-- name: make
insert into one_time_codes (id, owner, purpose, digest, expires_at) values ($1, $2, $3, $4, now() + $5::interval);

-- name: attempt
-- Every try counts, the right one included; then the code is used.
update one_time_codes set tries = tries + 1, used_at = case when digest = $3 then now() end
where owner = $1 and purpose = $2 and used_at is null and withdrawn_at is null and expires_at > now() and tries < $4
returning digest = $3 as right, tries;

-- name: spend
update one_time_codes set used_at = now()
where digest = $2 and purpose = $1 and used_at is null and withdrawn_at is null and expires_at > now()
returning owner;
