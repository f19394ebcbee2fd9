-- What each use of a provider costs us.

-- name: add
-- Rated by the row in force; a use without a rate is noted at nothing and told.
with used as (
    select * from unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::float8[], $10::text[], $11::text[])
        as use (feature, provider, model, unit, quantity, key, id)
), rated as (
    select used.*, rate.id as rate_id,
        ceil(used.quantity * coalesce(rate.usd_micros, 0) / coalesce(rate.per, 1))::bigint as usd_micros
    from used left join lateral (
        select * from cost_rates
        where provider = used.provider and model in (used.model, '') and unit = used.unit and since <= $4
        order by model = used.model desc, since desc limit 1
    ) as rate on true
), kept as (
    insert into costs (id, at, owner, call_id, product, feature, provider, model, unit, quantity, usd_micros, key)
    select id, $4, $1, $2, $3, feature, provider, model, unit, quantity, usd_micros, key from rated
    on conflict (key) do nothing
)
select provider, model, unit, usd_micros, rate_id is not null as rated from rated;

-- name: of call
select feature, provider, model, unit, quantity, usd_micros from costs where call_id = $1 order by at, id;

-- name: by
-- Sums of a time by provider, model and unit: what a provider's bill is compared with.
select provider, model, unit, sum(quantity) as quantity, sum(usd_micros)::bigint as usd_micros from costs
where at >= $1 and at < $2 group by provider, model, unit order by provider, model, unit;

-- name: minutes
-- What the calls that ended in a time cost, and how long people were connected in them.
select coalesce(sum(cost.usd_micros), 0)::bigint as usd_micros, coalesce(sum(call.seconds), 0)::float8 as seconds,
    count(*) as calls
from (
    select id, extract(epoch from ended_at - answered_at) as seconds from calls
    where ended_at >= $1 and ended_at < $2 and answered_at is not null
) as call join lateral (
    select sum(usd_micros) as usd_micros from costs where call_id = call.id and feature <> 'payment'
) as cost on cost.usd_micros is not null;
