-- The nodes that take calls.

-- name: register
insert into nodes (name, url, pid) values ($1, $2, $3)
on conflict (name) do update
set url = excluded.url, pid = excluded.pid, started_at = now(), heartbeat_at = now();

-- name: heartbeat
update nodes set heartbeat_at = now() where name = $1 and pid = $2 returning true;

-- name: forget
delete from nodes where name = $1 and pid = $2;

-- name: seen
select name, url, pid, started_at, heartbeat_at from nodes
where heartbeat_at > now() - $1::interval order by name;
