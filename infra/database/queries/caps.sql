-- Limits on a day's spending, and what was spent.

-- name: spend
select
    coalesce(sum(usd_micros) filter (where owner = $1), 0)::bigint as usd_micros,
    coalesce(
        (select usd_micros from spend_caps where owner = $1 order by id desc limit 1),
        (select usd_micros from spend_caps where owner = '*' order by id desc limit 1),
        $2::bigint) as cap_usd_micros,
    coalesce(sum(usd_micros), 0)::bigint as system_usd_micros,
    coalesce(
        (select usd_micros from spend_caps where owner = 'system' order by id desc limit 1),
        $3::bigint) as system_cap_usd_micros
from spend_days where day = (now() at time zone 'UTC')::date;

-- name: set
insert into spend_caps (id, owner, usd_micros, actor, reason) values ($1, $2, $3, $4, $5);
