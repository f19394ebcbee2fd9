-- People's accounts. One that was erased is an id and no more, and is found by nobody.

-- name: create
insert into users (id, email, password_hash, name, zone, language, adult_at, email_verified_at)
values ($1, $2, $3, $4, $5, $6, case when $7::boolean then now() end, case when $8::boolean then now() end)
returning *;

-- name: get
select * from users where id = $1 and erased_at is null;

-- name: by email
select * from users where email = $1 and email_verified_at is not null;

-- name: unproven
-- The newest account that was opened with an address which nobody has proven for it.
select * from users where email = $1 and email_verified_at is null order by created_at desc, id desc limit 1;

-- name: change
update users set name = coalesce($2, name), zone = coalesce($3, zone), language = coalesce($4, language),
    transcript_days = coalesce($5, transcript_days)
where id = $1 and erased_at is null
returning *;

-- name: attest
update users set adult_at = coalesce(adult_at, now()) where id = $1 and erased_at is null returning *;

-- name: prove email
update users set email_verified_at = coalesce(email_verified_at, now())
where id = $1 and erased_at is null
returning *;

-- name: set password
update users set password_hash = $2, token_epoch = token_epoch + case when $3::boolean then 1 else 0 end
where id = $1 and erased_at is null;

-- name: raise epoch
update users set token_epoch = token_epoch + 1 where id = $1;

-- name: set role
update users set role = $2, token_epoch = token_epoch + 1 where id = $1 and erased_at is null;

-- name: offer factor
update users set totp_sealed = $2 where id = $1 and totp_at is null and erased_at is null returning true;

-- name: take step
-- A code counts once: its step must be later than the last.
update users set totp_step = $2, totp_at = coalesce(totp_at, now())
where id = $1 and totp_step < $2 and totp_sealed is not null
returning true;

-- name: drop factor
update users set totp_sealed = null, totp_at = null where id = $1 and totp_at is not null returning true;
