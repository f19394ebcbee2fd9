-- What a call used, as its rows say.

-- name: call
select id, owner, direction, ended_at, extract(epoch from ended_at - answered_at)::float8 as connected_seconds,
    (select coalesce(sum((timings ->> 'characters')::float8), 0) from call_turns where call_id = calls.id) as characters
from calls where id = $1 and ended_at is not null;

-- name: tokens
select timings #>> '{model,provider}' as provider,
    sum((timings #>> '{model,in}')::float8) as tokens_in,
    sum((timings #>> '{model,out}')::float8) as tokens_out
from call_turns where call_id = $1 and timings ? 'model'
group by 1;
