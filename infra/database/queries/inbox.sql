-- What providers told us by webhook: kept once by its id, applied later, in any order.

-- name: receive
insert into inbox (provider, event_id, kind, payload) values ($1, $2, $3, $4::jsonb)
on conflict (provider, event_id) do nothing
returning true;

-- name: take
-- Each event for one worker at a time; one that is not finished comes back, later each time.
update inbox set attempts = attempts + 1,
    next_at = now() + least(interval '1 hour', interval '5 seconds' * power(2, least(attempts, 12)))
where (provider, event_id) in (
    select provider, event_id from inbox where state = 'received' and next_at <= now()
    order by next_at limit $1 for update skip locked)
returning *;

-- name: done
update inbox set state = 'done', error = null, done_at = now() where provider = $1 and event_id = $2;

-- name: failed
update inbox set error = $3, state = case when attempts >= $4 then 'dead' else state end
where provider = $1 and event_id = $2 and state = 'received';

-- name: list
select provider, event_id, kind, state, attempts, error, received_at, done_at from inbox
where ($1::text is null or state = $1) and ($2::text is null or provider = $2)
order by received_at desc, event_id desc limit $3;

-- name: replay
update inbox set state = 'received', attempts = 0, error = null, next_at = now(), done_at = null
where ($1::text is null or event_id = $1) and ($2::text is null or state = $2)
returning provider, event_id;

-- name: waiting
select count(*) from inbox where state = 'received';

-- name: forget
delete from inbox where state = 'done' and received_at < now() - $1::interval returning event_id;
