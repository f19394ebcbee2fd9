-- What somebody's calls came to. A call counts on the day it was made, in its owner's zone, and so does the money that
-- the ledger has for it, whenever that was booked: a day's row is what that day's calls cost, less what was given back.

-- name: usage
with me as (
    select zone, $3::date as since, $4::date as until from users where id = $1
), paid as (
    select call_id, sum(case when kind = 'refunded' then -usd_micros else usd_micros end) as usd_micros
    from ledger_transactions
    where party = $1 and kind in ('captured', 'refunded', 'refund_failed')
    group by call_id
), mine as (
    select
        case $2::text
            when 'day' then to_char(c.created_at at time zone me.zone, 'YYYY-MM-DD')
            when 'month' then to_char(c.created_at at time zone me.zone, 'YYYY-MM')
            else c.persona_id
        end as key,
        (c.dialed_at is not null or c.direction <> 'outbound')::int as calls,
        coalesce(ceil(extract(epoch from c.ended_at - c.answered_at) / 60), 0) as minutes,
        coalesce(paid.usd_micros, 0) as usd_micros
    from me
    join calls c on c.owner = $1
        and c.created_at >= coalesce(me.since::timestamp at time zone me.zone, '-infinity')
        and c.created_at < coalesce((me.until + 1)::timestamp at time zone me.zone, 'infinity')
    left join paid on paid.call_id = c.id
    where c.ended_at is not null
)
select mine.key, p.name, sum(calls)::bigint as calls, sum(minutes)::bigint as minutes,
    sum(usd_micros)::bigint as spent_usd_micros
from mine left join personas p on $2::text = 'persona' and p.id = mine.key
where mine.key is not null
group by mine.key, p.name
having sum(calls) > 0 or sum(usd_micros) <> 0
order by mine.key;
