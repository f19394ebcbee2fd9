-- What the scheduler does with booked calls. Times are the database's; every write after a claim names its epoch.

-- name: claim holds
-- Calls whose money is to be held, and those whose node died at it: the same attempt with the same call.
with ripe as materialized (
    select id from scheduled_calls
    where (state = 'pending' and try_at <= now() + $3::interval or state = 'holding' and lease_until < now())
        and dial_at > now() - $4::interval
    order by dial_at limit cardinality($2::text[])
    for update skip locked
), numbered as (
    select id, row_number() over () as place from ripe
)
update scheduled_calls s set
    state = 'holding', node = $1, epoch = s.epoch + 1, lease_until = now() + $5::interval,
    attempt = s.attempt + (s.state = 'pending')::int, call_id = coalesce(s.call_id, ($2::text[])[numbered.place]),
    changed_at = now()
from numbered where s.id = numbered.id
returning s.*, extract(epoch from s.dial_at - now())::float8 as wait_s,
    extract(epoch from $5::interval)::float8 as lease_s, false as again;

-- name: held
update scheduled_calls set
    state = 'held', node = null, lease_until = null, try_at = dial_at, changed_at = now()
where id = $1 and epoch = $2 and state = 'holding'
returning id;

-- name: hold later
update scheduled_calls set lease_until = now() + $3::interval
where id = $1 and epoch = $2 and state = 'holding'
returning id;

-- name: claim due
-- A little ahead of time, so that the commit is not part of the lateness. From here on nobody can cancel it.
with ripe as materialized (
    select id from scheduled_calls
    where state = 'held' and try_at <= now() + $3::interval and dial_at > now() - $4::interval
    order by try_at limit $2
    for update skip locked
), claimed as (
    update scheduled_calls s set
        state = 'dialing', node = $1, epoch = s.epoch + 1,
        lease_until = greatest(now(), s.try_at) + $5::interval, changed_at = now()
    from ripe where s.id = ripe.id
    returning s.*
), noted as (
    insert into scheduled_attempts (scheduled_id, attempt, epoch, node, call_id, due_at)
    select id, attempt, epoch, node, call_id, dial_at from claimed
    on conflict (scheduled_id, attempt) do update set epoch = excluded.epoch, node = excluded.node
    returning scheduled_id, xmax <> 0 as again
)
select claimed.*, extract(epoch from greatest(try_at, dial_at) - clock_timestamp())::float8 as wait_s,
    extract(epoch from lease_until - clock_timestamp())::float8 as lease_s, noted.again
from claimed join noted on noted.scheduled_id = claimed.id;

-- name: claim lost
-- Dials whose node died, or whose answer did: the carrier is asked before anything else.
with lost as materialized (
    select id from scheduled_calls
    where state = 'dialing' and lease_until < now()
    order by lease_until limit $2
    for update skip locked
), claimed as (
    update scheduled_calls s set
        node = $1, epoch = s.epoch + 1, lease_until = now() + $3::interval, changed_at = now()
    from lost where s.id = lost.id
    returning s.*
), noted as (
    update scheduled_attempts a set epoch = claimed.epoch, node = claimed.node
    from claimed where a.scheduled_id = claimed.id and a.attempt = claimed.attempt
)
select claimed.*, extract(epoch from claimed.dial_at - now())::float8 as wait_s,
    extract(epoch from $3::interval)::float8 as lease_s, true as again
from claimed;

-- name: dialed
with done as (
    update scheduled_calls set
        state = 'dialed', node = null, lease_until = null, changed_at = now()
    where id = $1 and epoch = $2 and state = 'dialing'
    returning id, attempt
)
update scheduled_attempts a set dialed_at = now(), reconciled = $3 from done
where a.scheduled_id = done.id and a.attempt = done.attempt
returning a.scheduled_id;

-- name: unknown
-- The carrier may have the call or not: nobody touches it until its list can be trusted.
update scheduled_calls set lease_until = now() + $3::interval
where id = $1 and epoch = $2 and state = 'dialing'
returning id;

-- name: put back
-- Nothing was dialled: the same call again in a moment.
update scheduled_calls set
    state = 'held', node = null, lease_until = null, try_at = now() + $3::interval, changed_at = now()
where id = $1 and epoch = $2 and state = 'dialing'
returning id;

-- name: drop
-- The call will not take place, and whoever prepared it has let go of it.
with dropped as (
    update scheduled_calls set
        state = 'skipped', outcome = $3, note = $4, node = null, lease_until = null, changed_at = now()
    where id = $1 and epoch = $2 and state in ('holding', 'dialing')
    returning id, attempt
), noted as (
    update scheduled_attempts a set outcome = $3 from dropped
    where a.scheduled_id = dropped.id and a.attempt = dropped.attempt
)
select id from dropped;

-- name: next due
-- Seconds until the next held call may be tried; null when there is none.
select extract(epoch from min(try_at) - clock_timestamp())::float8 from scheduled_calls where state = 'held';

-- name: miss
-- Nobody was there to dial in time. What was prepared is let go of.
with late as materialized (
    select id from scheduled_calls
    where dial_at < now() - $1::interval
        and (state in ('pending', 'held') or state = 'holding' and lease_until < now())
    order by dial_at limit $2
    for update skip locked
), missed as (
    update scheduled_calls s set
        state = 'missed', outcome = 'missed', note = $3, epoch = epoch + 1, node = null, lease_until = null,
        changed_at = now()
    from late where s.id = late.id
    returning s.id, s.owner, s.call_id
), left_over as (
    insert into scheduled_leftovers (call_id, owner, scheduled_id, not_before)
    select call_id, owner, id, now() from missed where call_id is not null
    on conflict (call_id) do nothing
)
select id from missed;

-- name: drop lost
-- A dial that never reached the carrier, found out too late to repeat it.
with dropped as (
    update scheduled_calls set
        state = 'missed', outcome = 'missed', note = $3, node = null, lease_until = null, changed_at = now()
    where id = $1 and epoch = $2 and state = 'dialing'
    returning id, owner, call_id
), left_over as (
    insert into scheduled_leftovers (call_id, owner, scheduled_id, not_before)
    select call_id, owner, id, now() from dropped
    on conflict (call_id) do nothing
)
select id from dropped;

-- name: leftovers
-- Taken for a while; gone for good once they were let go of.
with ripe as materialized (
    select call_id from scheduled_leftovers where not_before < now()
    order by not_before limit $1 for update skip locked
)
update scheduled_leftovers l set not_before = now() + $2::interval
from ripe where l.call_id = ripe.call_id
returning l.call_id;

-- name: forget leftover
delete from scheduled_leftovers where call_id = $1;

-- name: settle
-- Calls that were dialled and are over: tried again if the user wished so, else done.
with over as materialized (
    select s.id, c.state as outcome,
        s.attempt < $2 and s.attempt <= coalesce((s.retries ->> c.state)::int, 0) as again,
        greatest(now(), c.ended_at
            + make_interval(mins => coalesce((s.retries ->> 'spacing_minutes')::int, 15))) as next_at
    from scheduled_calls s join calls c on c.id = s.call_id
    where s.state = 'dialed' and c.ended_at is not null
    limit $1
    for update of s skip locked
), settled as (
    update scheduled_calls s set
        state = case when again then 'pending' else 'done' end,
        outcome = over.outcome,
        call_id = case when again then null else s.call_id end,
        dial_at = case when again then over.next_at else s.dial_at end,
        try_at = case when again then over.next_at else s.try_at end,
        changed_at = now()
    from over where s.id = over.id
    returning s.id, s.attempt, s.state, s.outcome
), noted as (
    update scheduled_attempts a set outcome = settled.outcome from settled
    where a.scheduled_id = settled.id and a.attempt = settled.attempt
)
select id, state, outcome from settled;

-- name: to continue
-- Series whose last call has left the waiting line.
select id, zone, anchor, local_time, repeat, series, ordinal, now() as at from scheduled_calls
where repeat is not null and not continued and state not in ('proposed', 'pending')
order by due_at limit $1;

-- name: carry on
-- Marking the one and booking the next is one act. $3 is null when the series is over.
with ending as (
    update scheduled_calls set continued = true
    where id = $1 and not continued and repeat is not null
    returning *
)
insert into scheduled_calls (
    id, owner, state, persona_id, number_id, max_minutes, outside_hours, zone, anchor, local_time,
    due_at, dial_at, try_at, repeat, retries, series, ordinal, promised_in)
select $2, owner, 'pending', persona_id, number_id, max_minutes, outside_hours, zone, anchor, $3::timestamp,
    $4::timestamptz, $4, $4, repeat, retries, series, ordinal + 1, promised_in
from ending where $3 is not null
on conflict (series, ordinal) do nothing
returning id;

-- name: stale proposals
-- Nobody said yes while it was fresh.
update scheduled_calls set state = 'canceled', outcome = 'unconfirmed', changed_at = now()
where state = 'proposed' and (created_at < now() - $1::interval or due_at < now());

-- name: untold
select s.id, s.owner, s.state, s.local_time, s.zone, s.outcome, s.note, u.email, p.name as persona
from scheduled_calls s
join users u on u.id = s.owner
left join personas p on p.id = s.persona_id
where s.state in ('missed', 'skipped') and not s.told
order by s.changed_at limit 1
for update of s skip locked;

-- name: told
update scheduled_calls set told = true where id = $1;

-- name: soon
-- How many calls begin within this time.
select count(*) from scheduled_calls where state = 'held' and try_at <= now() + $1::interval;
