-- What the gate reads, in one statement, and what it decided.

-- name: sealed
select sealed from numbers where owner = $1 and id = $2 and removed_at is null;

-- name: one at a time
-- Two dials for one person are judged one after the other, so that the second sees the first.
select pg_advisory_xact_lock(hashtextextended('gate:' || $1::text, 0));

-- name: facts
select
    now() as now,
    coalesce(u.adult_at is not null, false) as adult,
    coalesce((select granted from consents c where c.owner = u.id and c.purpose = 'service' order by c.seq desc limit 1),
        false)
        and coalesce((select granted from consents c where c.owner = u.id and c.purpose = 'calls'
            order by c.seq desc limit 1), true) as consent,
    coalesce(u.zone, 'UTC') as zone,
    n.id is not null as owned,
    n.verified_at is not null as verified,
    n.digest,
    coalesce((select stopped from opt_outs o where o.digest = n.digest order by o.id desc limit 1), false) as stopped,
    (select count(distinct coalesce(d.call_id, d.id)) from dial_decisions d
        where d.digest = n.digest and d.allowed and d.stage = 'dial' and d.at > now() - interval '24 hours'
            and d.call_id is distinct from $3)::int as attempts,
    exists (select from calls c where c.owner = $1 and c.ended_at is null and c.id is distinct from $3
        and not (c.scheduled_id is not null and c.state in ('created', 'authorising'))) as on_call,
    exists (select from payment_methods m where m.owner = $1 and m.removed_at is null) as card,
    case when exists (select from holds h where h.call_id = $3 and h.state not in ('declined', 'released')) then 0
        else coalesce((select p.call_usd_micros + p.minute_usd_micros * $4::int from prices p
            where p.product = 'call' and p.since <= now() order by p.since desc limit 1), 0) end::bigint as price,
    coalesce((select s.usd_micros from spend_days s where s.owner = $1 and s.day = today.day), 0)::bigint as spent,
    coalesce(
        (select s.usd_micros from spend_caps s where s.owner = $1 order by s.id desc limit 1),
        (select s.usd_micros from spend_caps s where s.owner = '*' order by s.id desc limit 1),
        $5::bigint) as cap,
    coalesce((select sum(s.usd_micros) from spend_days s where s.day = today.day), 0)::bigint as system_spent,
    coalesce((select s.usd_micros from spend_caps s where s.owner = 'system' order by s.id desc limit 1),
        $6::bigint) as system_cap
from (select (now() at time zone 'UTC')::date as day) today
left join users u on u.id = $1 and u.erased_at is null
left join numbers n on n.id = $2 and n.owner = u.id and n.removed_at is null;

-- name: decided
insert into dial_decisions (
    id, owner, number_id, digest, stage, scheduled_id, call_id, allowed, code, failing, facts)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text[], $11::jsonb);
