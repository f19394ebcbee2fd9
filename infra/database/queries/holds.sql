-- Holds. Each move names the states it may start from; what is booked with it is part of the same statement.

-- name: get
select * from holds where id = $1;

-- name: of call
select * from holds where call_id = $1 order by created_at desc, id desc limit 1;

-- name: by provider ref
select * from holds where provider_ref = $1;

-- name: lock spending
-- Whoever counts what was spent today and adds to it does so alone.
select pg_advisory_xact_lock(7310868735);

-- name: intend
-- Nothing comes back when a limit is reached, or when the call has a hold.
with cap as (
    select
        coalesce(
            (select usd_micros from spend_caps where owner = $2 order by id desc limit 1),
            (select usd_micros from spend_caps where owner = '*' order by id desc limit 1),
            $8::bigint) as mine,
        coalesce(
            (select usd_micros from spend_caps where owner = 'system' order by id desc limit 1), $9::bigint) as system
), spent as (
    select coalesce(sum(usd_micros) filter (where owner = $2), 0) as mine, coalesce(sum(usd_micros), 0) as system
    from spend_days where day = (now() at time zone 'UTC')::date
), hold as (
    insert into holds (id, owner, call_id, amount_usd_micros, max_minutes, price_id, customer, method, day)
    select $1, $2, $3, $4::bigint, $5, $6, customer.provider_ref, $7, (now() at time zone 'UTC')::date
    from cap, spent, customers customer
    where customer.owner = $2 and spent.mine + $4::bigint <= cap.mine and spent.system + $4::bigint <= cap.system
    on conflict (call_id) where state not in ('declined', 'released') do nothing
    returning *
), counted as (
    insert into spend_days (owner, day, usd_micros) select owner, day, amount_usd_micros from hold
    on conflict (day, owner) do update set usd_micros = spend_days.usd_micros + excluded.usd_micros
)
select * from hold;

-- name: declined
with moved as (
    update holds set state = 'declined', why = $2, provider_ref = $3, changed_at = now()
    where id = $1 and state = 'intent'
    returning *
), freed as (
    update spend_days set usd_micros = spend_days.usd_micros - moved.amount_usd_micros
    from moved where spend_days.owner = moved.owner and spend_days.day = moved.day
)
select * from moved;

-- name: held
with moved as (
    update holds set state = 'held', provider_ref = $2, capture_before = $3, changed_at = now()
    where id = $1 and state = 'intent'
    returning *
), booked as (
    insert into ledger_transactions (id, key, kind, party, hold_id, call_id, usd_micros)
    select $4, id || ':held', 'held', owner, id, call_id, amount_usd_micros from moved
    returning id
), entries as (
    insert into ledger_entries (transaction_id, line, party, account, usd_micros)
    select booked.id, entry.line, moved.owner, entry.account, entry.usd_micros
    from booked, moved, lateral (values
        (1, 'held', moved.amount_usd_micros),
        (2, 'owed', -moved.amount_usd_micros)) as entry (line, account, usd_micros)
)
select * from moved;

-- name: capturing
update holds set state = 'capturing', capture_usd_micros = $2, attempt = 1, changed_at = now()
where id = $1 and state = 'held'
returning *;

-- name: releasing
update holds set state = 'releasing', why = $2, attempt = 1, changed_at = now()
where id = $1 and state = 'held'
returning *;

-- name: again
update holds set attempt = attempt + 1, changed_at = now()
where id = $1 and attempt = $2 and state in ('capturing', 'releasing')
returning *;

-- name: captured
with moved as (
    update holds set state = 'captured', captured_usd_micros = $2, why = null, changed_at = now()
    where id = $1 and state in ('held', 'capturing', 'releasing')
    returning *
), freed as (
    update spend_days set usd_micros = spend_days.usd_micros - (moved.amount_usd_micros - moved.captured_usd_micros)
    from moved where spend_days.owner = moved.owner and spend_days.day = moved.day
), booked as (
    insert into ledger_transactions (id, key, kind, party, hold_id, call_id, usd_micros)
    select $3, id || ':captured', 'captured', owner, id, call_id, captured_usd_micros from moved
    returning id
), entries as (
    insert into ledger_entries (transaction_id, line, party, account, usd_micros)
    select booked.id, entry.line, moved.owner, entry.account, entry.usd_micros
    from booked, moved, lateral (values
        (1, 'held', -moved.amount_usd_micros),
        (2, 'owed', moved.amount_usd_micros),
        (3, 'processor', moved.captured_usd_micros),
        (4, 'revenue', -moved.captured_usd_micros)) as entry (line, account, usd_micros)
)
select * from moved;

-- name: released
with moved as (
    update holds set state = 'released', why = coalesce(why, $2), changed_at = now()
    where id = $1 and state in ('held', 'capturing', 'releasing')
    returning *
), freed as (
    update spend_days set usd_micros = spend_days.usd_micros - moved.amount_usd_micros
    from moved where spend_days.owner = moved.owner and spend_days.day = moved.day
), booked as (
    insert into ledger_transactions (id, key, kind, party, hold_id, call_id, usd_micros, reason)
    select $3, id || ':released', 'released', owner, id, call_id, amount_usd_micros, why from moved
    returning id
), entries as (
    insert into ledger_entries (transaction_id, line, party, account, usd_micros)
    select booked.id, entry.line, moved.owner, entry.account, entry.usd_micros
    from booked, moved, lateral (values
        (1, 'held', -moved.amount_usd_micros),
        (2, 'owed', moved.amount_usd_micros)) as entry (line, account, usd_micros)
)
select * from moved;

-- name: unfinished
select * from holds
where (state = 'intent' and changed_at < now() - $1::interval)
    or (state in ('capturing', 'releasing') and changed_at < now() - $2::interval)
order by changed_at limit 500;

-- name: left over
-- Held for calls that are over, that never were, or for longer than the card's network remembers.
select holds.*, calls.id is null as stray, calls.ended_at is not null as ended,
    calls.state = 'failed' as fault,
    case when calls.state in ('completed', 'failed')
        then extract(epoch from calls.ended_at - calls.answered_at)::float8 end as connected_seconds
from holds left join calls on calls.id = holds.call_id
where holds.state = 'held' and (
    calls.ended_at < now() - $1::interval
    or (calls.id is null and holds.created_at < now() - $1::interval)
    or holds.capture_before < now() + interval '1 hour')
order by holds.changed_at limit 500;

-- name: unverified
select * from holds
where state = 'captured' and verified_at is null and changed_at < now() - $1::interval
order by changed_at limit 200;

-- name: verified
update holds set verified_at = now() where id = $1;

-- name: faulty call
-- Whether a call of somebody's failed by our fault, and how far into it.
select extract(epoch from calls.ended_at - calls.answered_at)::float8 as connected_seconds
from calls join holds on holds.call_id = calls.id
where holds.id = $1 and calls.state = 'failed' and calls.answered_at is not null;

-- name: success
-- A hold that was not declined by its card's issuer is a try, and so is each capture.
select
    count(*) filter (where not issuer) + count(capture_usd_micros) as tried,
    count(*) filter (where state not in ('intent', 'declined')) + count(*) filter (where state = 'captured') as done,
    count(*) filter (where issuer) as declined
from (
    select state, capture_usd_micros,
        state = 'declined' and why not in ('never_placed', 'abandoned') and why not like 'refused%' as issuer
    from holds where created_at >= $1
) as tries;
