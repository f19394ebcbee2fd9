-- What is deleted because its time is over. The first parameter is the moment before which it ended.

-- name: recordings
-- The file goes first, then the row forgets it. Those of other nodes stay in front for a day, so take many.
select id, recording_path, ended_at from calls
where recording_path is not null and ended_at < $1
order by ended_at limit $2;

-- name: forget recording
update calls set recording_path = null where id = $1 and recording_path = $2;

-- name: bookings
delete from scheduled_calls
where id in (
    select s.id from scheduled_calls s
    where s.due_at < $1 and s.state in ('done', 'missed', 'skipped', 'canceled')
        and (s.repeat is null or s.continued)
    limit $2
);

-- name: decisions
delete from dial_decisions where id in (select id from dial_decisions where at < $1 limit $2);
