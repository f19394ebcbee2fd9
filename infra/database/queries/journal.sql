-- The journal of what was said. Every write holds the call's row at its epoch, so a stale host writes nothing.

-- name: turns
select number, epoch, who, text, spoken, done, timings, at from call_turns where call_id = $1 order by number;

-- name: add
with fenced as (
    update calls set turns = $3, flow = coalesce($7::jsonb, flow)
    where id = $1 and epoch = $2 and turns = $3 - 1
    returning id
)
insert into call_turns (call_id, number, epoch, who, text, done, timings)
select id, $3, $2, $4, $5, $4 = 'caller', $6::jsonb from fenced
returning number;

-- name: spoke
with fenced as (
    select id from calls where id = $1 and epoch = $2 for no key update
)
update call_turns set spoken = $4, done = $5, timings = timings || $6::jsonb, text = coalesce($7, text)
from fenced
where call_id = fenced.id and number = $3 and who = 'bot'
returning number;

-- name: standing
select c.epoch, c.turns, t.epoch as turn_epoch, t.who
from calls c left join call_turns t on t.call_id = c.id and t.number = $2
where c.id = $1;
