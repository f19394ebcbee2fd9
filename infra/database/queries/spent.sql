-- What once proved somebody, and proves nothing any more. $1: the moment before which that began; $2: how many at most.

-- name: codes
delete from one_time_codes where id in (select id from one_time_codes where expires_at < $1 limit $2);

-- name: refresh tokens
-- A used one is kept while its session could live: until then its return is a theft that must be noticed.
delete from refresh_tokens where digest in (
    select t.digest from refresh_tokens t join sessions s on s.id = t.session
    where least(t.expires_at, s.expires_at, s.idle_until, s.ended_at) < $1 limit $2
);

-- name: sessions
delete from sessions where id in (
    select s.id from sessions s
    where least(s.expires_at, s.idle_until, s.ended_at) < $1
        and not exists (select from refresh_tokens t where t.session = s.id)
    limit $2
);

-- name: letters
delete from outbox where id in (select id from outbox where coalesce(sent_at, failed_at) < $1 limit $2);

-- name: numbers
delete from numbers where id in (select id from numbers where removed_at < $1 limit $2);

-- name: devices
delete from devices where id in (select id from devices where revoked_at < $1 limit $2);
