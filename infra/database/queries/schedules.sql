-- Booked calls as their owners see them. Every statement names the owner.

-- name: insert
-- One statement for one call or a thousand; all or none.
insert into scheduled_calls (
    id, owner, state, persona_id, number_id, max_minutes, outside_hours, zone, anchor, local_time,
    due_at, dial_at, try_at, repeat, retries, series, ordinal, promised_in)
select b.id, $1, b.state, b.persona_id, b.number_id, b.max_minutes, b.outside_hours, b.zone, b.anchor, b.local_time,
    b.due_at, b.due_at, b.due_at, nullif(b.repeat, 'null'::jsonb), b.retries, coalesce(nullif(b.series, ''), b.id),
    b.ordinal, b.promised_in
from jsonb_to_recordset($2::jsonb) as b (
    id text, state text, persona_id text, number_id text, max_minutes int, outside_hours boolean, zone text,
    anchor timestamp, local_time timestamp, due_at timestamptz, repeat jsonb, retries jsonb, series text, ordinal int,
    promised_in text);

-- name: get
select s.*, p.name as persona_name, n.masked as number
from scheduled_calls s
left join personas p on p.id = s.persona_id and (p.owner is null or p.owner = s.owner)
left join numbers n on n.id = s.number_id and n.owner = s.owner
where s.owner = $1 and s.id = any($2::text[]);

-- name: page
-- What is to come, the next one first; then what was, the latest first. `rank` and `place` are the key of that order.
select * from (
    select s.*, p.name as persona_name, n.masked as number, past::int as rank,
        (extract(epoch from s.due_at) * case when past then -1 else 1 end)::float8 as place
    from scheduled_calls s
    cross join lateral (select s.state in ('done', 'missed', 'skipped', 'canceled') as past) as which
    left join personas p on p.id = s.persona_id and (p.owner is null or p.owner = s.owner)
    left join numbers n on n.id = s.number_id and n.owner = s.owner
    where s.owner = $1 and ($2::text[] is null or s.state = any($2))
) as booked
where $3::int is null or (rank, place, id) > ($3, $4::float8, $5::text)
order by rank, place, id limit $6;

-- name: waiting
-- How many calls an owner has booked that are still to come.
select count(*) from scheduled_calls where owner = $1 and state in ('proposed', 'pending', 'holding', 'held');

-- name: lock
select state, series, ordinal from scheduled_calls where owner = $1 and id = $2 for update;

-- name: change
-- A call that was prepared is let go of (`leave`); the changed one is prepared anew, with another call.
update scheduled_calls set
    state = case when state = 'proposed' then state else 'pending' end,
    persona_id = $3, number_id = $4, max_minutes = $5, outside_hours = $6, zone = $7, anchor = $8, local_time = $9,
    due_at = $10, dial_at = $10, try_at = $10, repeat = $11::jsonb, retries = $12::jsonb,
    attempt = attempt - (state in ('holding', 'held'))::int,
    epoch = epoch + 1, node = null, lease_until = null, call_id = null, note = null, changed_at = now()
where owner = $1 and id = $2 and state in ('proposed', 'pending', 'holding', 'held')
returning id;

-- name: leave
-- Remember the calls that were prepared for these bookings, until they are let go of.
insert into scheduled_leftovers (call_id, owner, scheduled_id, not_before)
select call_id, owner, id, coalesce(lease_until, now()) from scheduled_calls
where owner = $1 and id = any($2::text[]) and state in ('holding', 'held')
on conflict (call_id) do nothing;

-- name: rest
-- The later calls of a series, which a cancellation of all of it takes along.
select id from scheduled_calls
where owner = $1 and series = $2 and ordinal > $3 and state in ('proposed', 'pending', 'holding', 'held')
order by ordinal for update;

-- name: cancel
update scheduled_calls set
    state = 'canceled', repeat = case when $3::boolean then repeat end, epoch = epoch + 1, outcome = 'canceled',
    lease_until = null, changed_at = now()
where owner = $1 and id = any($2::text[]) and state in ('proposed', 'pending', 'holding', 'held')
returning id;

-- name: confirm
update scheduled_calls set state = 'pending', changed_at = now()
where owner = $1 and id = $2 and state = 'proposed' and due_at > now()
returning id;

-- name: promise
-- The call in which something is promised: who is called, by whom, for how long.
select owner, persona_id, number_id, coalesce(max_minutes, 15) as max_minutes from calls
where id = $1 and owner = $2;

-- name: choices
-- What of these ids the owner may book with.
select
    array(select p.id from personas p where p.id = any($2::text[]) and p.removed_at is null
        and (p.owner is null or p.owner = $1)) as personas,
    array(select n.id from numbers n where n.id = any($3::text[]) and n.owner = $1 and n.removed_at is null) as numbers,
    (select n.id from numbers n where n.owner = $1 and n.removed_at is null and n.verified_at is not null
        order by n.verified_at, n.id limit 1) as main,
    (select zone from users where id = $1) as zone;
