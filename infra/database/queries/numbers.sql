-- Phone numbers of accounts: found by a keyed digest, read by their owner's key alone.

-- name: put
-- A number once for each owner. A code that still runs is sent again with the tries it has left.
-- Codes are counted for the owner and, over all accounts, for the number: nobody's phone is flooded from here.
with counted as (
    select (
        select count(*) from numbers
        where owner = $2 and (removed_at is null and digest <> $4 or removed_at > now() - interval '1 day')
    ) as of_owner, (
        select coalesce(sum(sends), 0) from numbers where digest = $4 and sends_since > now() - interval '1 day'
    ) as of_number
)
insert into numbers as n (id, owner, sealed, digest, country, masked, sends, code_until)
select $1, $2, $3, $4, $5, $6, 1, now() + $7::interval from counted where of_owner < $8 and of_number < $9
on conflict (owner, digest) where removed_at is null do update set
    tries = case when n.code_until > now() then n.tries else 0 end,
    code_until = case when n.code_until > now() then n.code_until else excluded.code_until end,
    sends = case when n.sends_since < now() - interval '1 day' then 1 else n.sends + 1 end,
    sends_since = case when n.sends_since < now() - interval '1 day' then now() else n.sends_since end
where n.verified_at is null
returning *;

-- name: mine
select * from numbers where owner = $1 and digest = $2 and removed_at is null;

-- name: get
select * from numbers where owner = $1 and id = $2 and removed_at is null;

-- name: list
select * from numbers where owner = $1 and removed_at is null order by verified_at nulls last, created_at, id;

-- name: primary
select * from numbers where owner = $1 and removed_at is null and verified_at is not null
order by verified_at, created_at, id limit 1;

-- name: attempt
-- Every try counts before it is made, so that two at once are two.
update numbers set tries = tries + 1
where owner = $1 and id = $2 and removed_at is null and verified_at is null and code_until > now() and tries < $3
returning *;

-- name: verify
update numbers set verified_at = now(), code_until = null
where owner = $1 and id = $2 and removed_at is null and verified_at is null
returning *;

-- name: remove
-- Its digest stays for a day's count of codes sent; what can be read of it goes.
update numbers set removed_at = now(), sealed = '', masked = '' where owner = $1 and id = $2 and removed_at is null
returning id;
