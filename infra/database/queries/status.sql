-- Probes and incidents, for the public status page.

-- name: note
insert into uptime (part, day, good, bad, last_at)
select $1, day, good, bad, last_at from unnest($2::date[], $3::int[], $4::int[], $5::timestamptz[])
    as seen (day, good, bad, last_at)
on conflict (part, day) do update set
    good = uptime.good + excluded.good, bad = uptime.bad + excluded.bad,
    last_at = greatest(uptime.last_at, excluded.last_at);

-- name: last probe
select max(last_at) from uptime where part = $1;

-- name: open
insert into incidents (id, part, node, cause, opened_at) values ($1, $2, $3, $4, $5)
on conflict (part, node) where closed_at is null do nothing;

-- name: close
update incidents set closed_at = greatest(opened_at, $3) where part = $1 and node = $2 and closed_at is null;

-- name: days
select day, good, bad from uptime where part = $1 and day > $2::date - 90 order by day;

-- name: incidents
select id, part, cause, opened_at, closed_at from incidents
where part = $1 and (closed_at is null or closed_at > $2::timestamptz - interval '90 days')
order by opened_at desc limit 50;
