-- Customers and their saved cards. A card's number never gets here.

-- name: customer
select provider_ref from customers where owner = $1;

-- name: owner
select owner from customers where provider_ref = $1;

-- name: keep customer
insert into customers (owner, provider_ref) values ($1, $2)
on conflict (owner) do update set provider_ref = customers.provider_ref
returning provider_ref;

-- name: list
select * from payment_methods where owner = $1 and removed_at is null order by is_default desc, created_at desc, id;

-- name: get
select * from payment_methods where owner = $1 and id = $2 and removed_at is null;

-- name: default
select * from payment_methods where owner = $1 and is_default and removed_at is null;

-- name: add
insert into payment_methods (
    id, owner, provider_ref, brand, last4, expires_month, expires_year, is_default)
select $1, $2, $3, $4, $5, $6, $7, not exists (
    select from payment_methods where owner = $2 and is_default and removed_at is null)
on conflict (provider_ref) where removed_at is null do update
set brand = excluded.brand, last4 = excluded.last4,
    expires_month = excluded.expires_month, expires_year = excluded.expires_year
where payment_methods.owner = excluded.owner
returning *;

-- name: no default
update payment_methods set is_default = false where owner = $1 and is_default and removed_at is null;

-- name: make default
update payment_methods set is_default = true where owner = $1 and id = $2 and removed_at is null returning *;

-- name: remove
update payment_methods set removed_at = now(), is_default = false
where owner = $1 and id = $2 and removed_at is null
returning *;

-- name: next default
update payment_methods set is_default = true
where id = (
    select id from payment_methods where owner = $1 and removed_at is null order by created_at desc, id desc limit 1)
    and not exists (select from payment_methods where owner = $1 and is_default and removed_at is null)
returning *;

-- name: booked
-- Calls of somebody's that are still to be paid.
select count(*) from scheduled_calls where owner = $1 and state in ('pending', 'holding', 'held');
