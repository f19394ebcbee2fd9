-- Calls that belong to somebody. What a user sees or changes is reached only together with its owner.

-- name: open
-- The same id is the same call: asked for twice, it is written once. What its owner agreed to is read here.
with terms as (
    select coalesce((
        select granted from consents where owner = $2 and purpose = 'transcripts' order by seq desc limit 1
    ), false) as transcripts
), born as (
    insert into calls (
        id, owner, direction, state, persona, persona_id, number_id, from_number, to_number, options, scheduled_id,
        max_minutes, transcript_consent, seq, state_seq)
    select $1, $2, 'outbound', 'authorising', $3, $4, $5, $6, $7, $8::jsonb, $9, $10, transcripts, 1, 1 from terms
    on conflict (id) do nothing
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, 1, 0, 'state', jsonb_build_object('state', state) from born
)
select * from born;

-- name: adopt
-- A call that came in turns out to be somebody's.
with mine as (
    update calls set
        owner = $2, persona = $3, persona_id = $4, number_id = $5, from_number = $6, options = $7::jsonb,
        max_minutes = $8, state = 'authorising', seq = seq + 1, state_seq = seq + 1, changed_at = now(),
        transcript_consent = coalesce((
            select granted from consents where owner = $2 and purpose = 'transcripts' order by seq desc limit 1
        ), false)
    where id = $1 and owner is null and state = 'created'
    returning *
), event as (
    insert into call_events (call_id, seq, epoch, kind, data)
    select id, seq, 0, 'state', jsonb_build_object('state', state) from mine
)
select * from mine;

-- name: target
-- Whom a user's call goes to: the number they chose, else the one they proved first.
select n.id as number_id, n.sealed, n.country, u.zone, u.language
from users u left join lateral (
    select * from numbers n where n.owner = u.id and n.removed_at is null
        and case when $2::text is null then n.verified_at is not null else n.id = $2 end
    order by n.verified_at limit 1
) n on true
where u.id = $1 and u.erased_at is null;

-- name: favourite
-- Who calls when nobody was chosen: the first of the contacts, else the first persona of one's own, or the system's.
select coalesce(
    (select p.id from contacts c join personas p on p.id = c.persona_id
        where c.owner = $1 and (p.owner = $1 or p.owner is null) and p.removed_at is null
        order by c.position, c.persona_id limit 1),
    (select id from personas where owner = $1 and removed_at is null order by id limit 1),
    (select id from personas where owner is null and removed_at is null order by id limit 1));

-- name: note hold
update calls set hold_id = $2 where id = $1 returning *;

-- name: caller
-- Who is behind a number that was proven, as far as taking their call depends on it.
select n.id as number_id, n.owner, n.country, u.zone, u.language
from numbers n join users u on u.id = n.owner
where n.digest = $1 and n.verified_at is not null and n.removed_at is null and u.erased_at is null
    and u.adult_at is not null;

-- name: payer
select u.zone, u.language from users u where u.id = $1 and u.erased_at is null;

-- name: line
select number, owner, persona_id, payer from lines where number = $1;

-- name: bind line
insert into lines (number, owner, persona_id, payer) values ($1, $2, $3, $4)
on conflict (number) do update set persona_id = excluded.persona_id, payer = excluded.payer
where lines.owner = excluded.owner
returning number;

-- name: own
select c.*, p.name as persona_name, n.masked, h.amount_usd_micros as held_usd_micros,
    h.captured_usd_micros - h.refunded_usd_micros as paid_usd_micros
from calls c
left join personas p on p.id = c.persona_id
left join numbers n on n.id = c.number_id and n.owner = $1
left join holds h on h.id = c.hold_id and h.owner = $1
where c.owner = $1 and c.id = $2;

-- name: history
select c.*, p.name as persona_name, n.masked, h.amount_usd_micros as held_usd_micros,
    h.captured_usd_micros - h.refunded_usd_micros as paid_usd_micros
from (
    select * from calls
    where owner = $1
        and ($2::text is null or persona_id = $2)
        and ($3::text is null or state = $3)
        and ($4::timestamptz is null or created_at >= $4)
        and ($5::timestamptz is null or created_at < $5)
        and ($6::boolean is null or (scheduled_id is not null) = $6)
        and ($7::timestamptz is null or (created_at, id) < ($7, $8::text))
        and not (scheduled_id is not null and state in ('created', 'authorising'))  -- is still a booking
    order by created_at desc, id desc limit $9
) c
left join personas p on p.id = c.persona_id
left join numbers n on n.id = c.number_id and n.owner = $1
left join holds h on h.id = c.hold_id and h.owner = $1
order by c.created_at desc, c.id desc;

-- name: own turns
select t.number, t.epoch, t.who, t.text, t.spoken, t.done, t.timings, t.at
from call_turns t join calls c on c.id = t.call_id
where c.owner = $1 and c.id = $2 and t.number >= $3 order by t.number;

-- name: unsettled
-- The node that had a call settles it at once; what it leaves undone, any other takes up after a while. A call that
-- was answered waits a moment for the carrier's own measure of how long it was connected.
select c.id, c.owner, c.state, c.ended_reason, c.ended_at, h.id as hold_id,
    case when c.answered_at is not null
        then least(extract(epoch from c.ended_at - c.answered_at), told.seconds)::float end as connected_seconds
from calls c
left join lateral (
    select min((e.data ->> 'seconds')::float) as seconds from call_events e
    where e.call_id = c.id and e.data ? 'seconds'
) told on true
left join lateral (
    select h.id from holds h where h.call_id = c.id and h.state not in ('declined', 'captured', 'released')
    order by h.created_at desc limit 1
) h on true
where c.owner is not null and c.settled_at is null and c.ended_at is not null and c.id <> all($4::text[])
    and (c.node is null or c.node = $1 or c.ended_at < now() - $2::interval)
    and (c.answered_at is null or told.seconds is not null or c.ended_at < now() - interval '2 seconds')
order by c.ended_at limit $3;

-- name: settled
update calls set settled_at = now(), seq = seq + 1 where id = $1 and settled_at is null returning id, seq, epoch;

-- name: note settled
insert into call_events (call_id, seq, epoch, kind, data) values ($1, $2, $3, 'settled', $4::jsonb);

-- name: unarchived
select id, owner, transcript_consent from calls
where owner is not null and archived_at is null and ended_at is not null and ended_at < now() - $1::interval
order by ended_at limit $2;

-- name: archived
-- The next epoch: a host that still has something to write about the call is refused.
with done as (
    update calls set archived_at = now(), flow = '{}', epoch = epoch + 1, seq = seq + 1
    where id = $1 and archived_at is null
    returning id, seq, epoch
), forgotten as (
    delete from call_turns t using done where t.call_id = done.id and not $2::boolean
)
insert into call_events (call_id, seq, epoch, kind, data)
select id, seq, epoch, 'archived', jsonb_build_object('kept', $2::boolean) from done
returning call_id;

-- name: keep recording
update calls set recording_path = $2 where id = $1 and recording_consent returning id;

-- name: refer
insert into referrals (day, country, language, count) values (current_date, $1, $2, 1)
on conflict (day, country, language) do update set count = referrals.count + 1;

-- name: referrals
select country, language, sum(count)::bigint as count from referrals
where day >= $1 and day < $2 group by country, language order by country, language;
