-- Letters to send.

-- name: put
insert into outbox (id, owner, kind, letter_sealed) values ($1, $2, $3, $4);

-- name: claim
-- Whoever claims has until due_at to send; then another tries.
update outbox set tries = tries + 1, due_at = now() + $2::interval * power(2, tries)
where id in (
    select id from outbox where sent_at is null and failed_at is null and due_at <= now()
    order by due_at limit $1 for update skip locked
)
returning id, owner, kind, letter_sealed, tries;

-- name: sent
update outbox set sent_at = now(), letter_sealed = '', error = null where id = $1;

-- name: failed
update outbox set failed_at = now(), letter_sealed = '', error = $2 where id = $1;

-- name: postponed
update outbox set error = $2 where id = $1;

-- name: of owner
select id, owner, kind, letter_sealed, tries from outbox
where owner is not distinct from $1 and sent_at is null and failed_at is null
order by id desc;
