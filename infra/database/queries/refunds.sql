-- Refunds. What is being given back counts against its hold from the moment that it is written down.

-- name: get
select * from refunds where id = $1;

-- name: by key
select * from refunds where hold_id = $1 and key = $2;

-- name: of hold
select * from refunds where hold_id = $1 order by created_at, id;

-- name: ask
with hold as (
    update holds set refunded_usd_micros = refunded_usd_micros + $4::bigint, changed_at = now()
    where id = $2 and state = 'captured' and captured_usd_micros - refunded_usd_micros >= $4::bigint
    returning *
)
insert into refunds (id, hold_id, owner, key, usd_micros, reason, actor, rule, provider_ref)
select $1, id, owner, $3, $4::bigint, $5, $6, $7, $8 from hold
returning *;

-- name: known
-- The processor has it; it is never asked for again.
update refunds set provider_ref = $2, changed_at = now()
where id = $1 and state = 'pending' and provider_ref is null
returning *;

-- name: again
update refunds set attempt = attempt + 1, changed_at = now()
where id = $1 and attempt = $2 and state = 'pending'
returning *;

-- name: succeeded
with moved as (
    update refunds set state = 'succeeded', provider_ref = $2, changed_at = now()
    where id = $1 and state = 'pending'
    returning *
), booked as (
    insert into ledger_transactions (id, key, kind, party, hold_id, call_id, refund_id, usd_micros, reason)
    select $3, moved.id || ':refunded', 'refunded', moved.owner, holds.id, holds.call_id, moved.id,
        moved.usd_micros, moved.reason
    from moved join holds on holds.id = moved.hold_id
    returning id
), entries as (
    insert into ledger_entries (transaction_id, line, party, account, usd_micros)
    select booked.id, entry.line, moved.owner, entry.account, entry.usd_micros
    from booked, moved, lateral (values
        (1, 'refunds', moved.usd_micros),
        (2, 'processor', -moved.usd_micros)) as entry (line, account, usd_micros)
)
select * from moved;

-- name: failed
-- What was booked as given back comes back; what was only asked for is free to be asked for again.
with before as (
    select id, state from refunds where id = $1 and state in ('pending', 'succeeded') for update
), moved as (
    update refunds set state = 'failed', provider_ref = coalesce($2, provider_ref), changed_at = now()
    from before where refunds.id = before.id
    returning refunds.*, before.state as was
), hold as (
    update holds set refunded_usd_micros = holds.refunded_usd_micros - moved.usd_micros, changed_at = now()
    from moved where holds.id = moved.hold_id
), booked as (
    insert into ledger_transactions (id, key, kind, party, hold_id, call_id, refund_id, usd_micros, reason)
    select $3, moved.id || ':failed', 'refund_failed', moved.owner, holds.id, holds.call_id, moved.id,
        moved.usd_micros, moved.reason
    from moved join holds on holds.id = moved.hold_id where moved.was = 'succeeded'
    returning id
), entries as (
    insert into ledger_entries (transaction_id, line, party, account, usd_micros)
    select booked.id, entry.line, moved.owner, entry.account, entry.usd_micros
    from booked, moved, lateral (values
        (1, 'processor', moved.usd_micros),
        (2, 'refunds', -moved.usd_micros)) as entry (line, account, usd_micros)
)
select * from moved;

-- name: pending
select * from refunds where state = 'pending' and changed_at < now() - $1::interval order by changed_at limit 500;
