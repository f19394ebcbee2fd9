-- Calls and their events. A move is looked up by the row's `situation` in the table that call_states.moves renders.

-- name: create
-- A carrier that asks twice about one call gets one row.
with born as (
    insert into calls (id, direction, persona, from_number, to_number, options, carrier_sid, seq, state_seq)
    values ($1, $2, $3, $4, $5, $6::jsonb, $7, 1, 1)
    on conflict (carrier_sid) do update set carrier_sid = excluded.carrier_sid
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, 1, 0, 'state', jsonb_build_object('state', state) from born where id = $1
)
select * from born;

-- name: get
select * from calls where id = $1;

-- name: by carrier sid
select * from calls where carrier_sid = $1;

-- name: bind carrier sid
with bound as (
    update calls set carrier_sid = $2, seq = seq + 1
    where id = $1 and carrier_sid is null
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'carrier_sid', jsonb_build_object('carrier_sid', carrier_sid) from bound
)
select * from bound;

-- name: live
select * from calls where ended_at is null order by created_at;

-- name: recent
select * from calls order by created_at desc, id desc limit $1;

-- name: held
select * from calls where ended_at is null and node = $1 and ($2::text is null or host = $2) order by created_at;

-- name: orphans
select * from calls
where ended_at is null and greatest(changed_at, media_seen_at) < now() - $1::interval
    -- What is prepared for later waits for its time, as long as any booking's may be away.
    and not (scheduled_id is not null and state in ('created', 'authorising') and created_at > now() - interval '3 hours')
order by created_at;

-- name: events
select seq, epoch, at, kind, data from call_events where call_id = $1 and seq > $2 order by seq;

-- name: advance
with moved as (
    update calls set
        state = $3::jsonb -> situation ->> 'state',
        ending_reason = $3::jsonb -> situation ->> 'ending',
        ended_reason = $3::jsonb -> situation ->> 'ended',
        answered_at = case when ($3::jsonb -> situation ->> 'answered')::boolean
            then coalesce(answered_at, now()) end,
        ended_at = case when $3::jsonb -> situation ->> 'ended' is not null then now() end,
        dialed_at = coalesce(dialed_at, case when $3::jsonb -> situation ->> 'state' = 'dialing' then now() end),
        seq = seq + 1, state_seq = seq + 1, changed_at = now()
    where id = $1 and ($2::int is null or epoch = $2) and $3::jsonb ? situation
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'state',
        $4::jsonb || jsonb_build_object('state', state, 'reason', coalesce(ended_reason, ending_reason))
    from moved
)
select * from moved;

-- name: carrier event
with noted as (
    update calls set
        state = coalesce($4::jsonb -> situation ->> 'state', state),
        ending_reason = case when $4::jsonb ? situation
            then $4::jsonb -> situation ->> 'ending' else ending_reason end,
        ended_reason = coalesce(ended_reason, $4::jsonb -> situation ->> 'ended'),
        answered_at = coalesce(
            answered_at, case when ($4::jsonb -> situation ->> 'answered')::boolean then now() end),
        ended_at = coalesce(
            ended_at, case when $4::jsonb -> situation ->> 'ended' is not null then now() end),
        seq = seq + 1,
        state_seq = case when $4::jsonb ? situation then seq + 1 else state_seq end,
        changed_at = case when $4::jsonb ? situation then now() else changed_at end
    where id = $1 and not exists (select from call_events e where e.call_id = $1 and e.dedup = $2)
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data, dedup)
    select id, seq, epoch, case when state_seq = seq then 'state' else 'carrier' end,
        $5::jsonb || jsonb_build_object(
            'carrier_status', $3::text, 'state', state, 'reason', coalesce(ended_reason, ending_reason)),
        $2
    from noted
)
select * from noted;

-- name: issue ticket
with issued as (
    update calls set ticket = ticket + 1, seq = seq + 1
    where id = $1 and ended_at is null and state <> 'ending'
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'ticket', jsonb_build_object('ticket', ticket) from issued
)
select ticket from issued;

-- name: claim
with claimed as (
    update calls set
        ticket_claimed = $2, epoch = epoch + 1, node = $3, host = $4, media_seen_at = now(),
        seq = seq + 1, changed_at = now()
    where id = $1 and ticket = $2 and ticket_claimed < $2 and ended_at is null and state <> 'ending'
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'claimed', jsonb_build_object('node', node, 'host', host, 'ticket', $2::int) from claimed
)
select claimed.*, coalesce((
    -- Was the last thing its holder did to let go of it on purpose? The snapshot is from before this claim.
    select e.kind = 'released' and (e.data ->> 'moved')::boolean from call_events e
    where e.call_id = $1 and e.kind in ('claimed', 'released') order by e.seq desc limit 1
), false) as moved from claimed;

-- name: release
with released as (
    update calls set node = null, host = null, media_seen_at = null, seq = seq + 1, changed_at = now()
    where id = $1 and epoch = $2 and host is not null
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'released', jsonb_build_object('moved', $3::boolean) from released
)
select * from released;

-- name: heartbeat
update calls set media_seen_at = now()
from unnest($1::text[], $2::int[]) as mine (id, epoch)
where calls.id = mine.id and calls.epoch = mine.epoch and calls.ended_at is null and calls.host is not null
returning calls.id;

-- name: signal
with signalled as (
    update calls set seq = seq + 1 where id = $1 returning id, seq, epoch
)
insert into call_events (call_id, seq, epoch, kind, data)
select id, seq, epoch, $2, $3::jsonb from signalled
returning seq;

-- name: consent
with asked as (
    update calls set recording_consent = $3, seq = seq + 1 where id = $1 and epoch = $2
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'consent', jsonb_build_object('granted', recording_consent) from asked
)
select * from asked;

-- name: recording
with kept as (
    update calls set recording_path = $3, seq = seq + 1
    where id = $1 and ($2::int is null or epoch = $2) and recording_consent
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, epoch, 'recording', jsonb_build_object('path', recording_path) from kept
)
select * from kept;
