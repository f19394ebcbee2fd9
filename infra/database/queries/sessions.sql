-- Sessions and their refresh tokens.

-- name: open
with opened as (
    insert into sessions (id, owner, method, second_factor, ip, agent, idle_until, expires_at)
    values ($1, $2, $3, $4, $5::text::inet, $6, now() + least($7::interval, $8::interval), now() + $8::interval)
    returning *
), token as (
    insert into refresh_tokens (digest, session, owner, expires_at) select $9, id, owner, expires_at from opened
)
select o.id, o.owner, o.method, o.second_factor, host(o.ip) as ip, o.agent, o.created_at, o.used_at, o.idle_until,
    o.expires_at, o.ended_at, o.ended_why, u.token_epoch
from opened o join users u on u.id = o.owner;

-- name: rotate
-- Spends the token and makes the next, if its session lives. Of two that come at once, one finds it spent.
with spent as (
    update refresh_tokens t set used_at = now()
    from sessions s, users u
    where t.digest = $1 and t.used_at is null and t.expires_at > now() and s.id = t.session and s.ended_at is null
        and s.idle_until > now() and s.expires_at > now() and u.id = s.owner and u.erased_at is null
    returning t.session, t.owner, t.expires_at
), kept as (
    update sessions s set used_at = now(), idle_until = least(now() + $3::interval, s.expires_at)
    from spent where s.id = spent.session
    returning s.*
), token as (
    insert into refresh_tokens (digest, session, owner, expires_at) select $2, session, owner, expires_at from spent
)
select k.id, k.owner, k.method, k.second_factor, host(k.ip) as ip, k.agent, k.created_at, k.used_at, k.idle_until,
    k.expires_at, k.ended_at, k.ended_why, u.token_epoch
from kept k join users u on u.id = k.owner;

-- name: reused
-- A token that was spent came back: somebody copied it, so its session ends for both.
update sessions s set ended_at = now(), ended_why = 'reused'
from refresh_tokens t
where t.digest = $1 and t.used_at is not null and s.id = t.session and s.ended_at is null
returning s.id, s.owner;

-- name: standing
select s.owner, s.second_factor, u.role, u.token_epoch
from sessions s join users u on u.id = s.owner
where s.id = $1 and s.ended_at is null and s.idle_until > now() and s.expires_at > now() and u.erased_at is null;

-- name: live
select id, owner, method, second_factor, host(ip) as ip, agent, created_at, used_at, idle_until, expires_at,
    ended_at, ended_why
from sessions
where owner = $1 and ended_at is null and idle_until > now() and expires_at > now()
order by created_at desc, id desc;

-- name: end
update sessions set ended_at = now(), ended_why = $3 where owner = $1 and id = $2 and ended_at is null returning true;

-- name: end all
update sessions set ended_at = now(), ended_why = $2
where owner = $1 and ended_at is null and id is distinct from $3
returning id;

-- name: of refresh
select s.owner, s.id from refresh_tokens t join sessions s on s.id = t.session where t.digest = $1;
