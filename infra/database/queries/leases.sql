-- Who does what only one node may do. The database's clock decides.

-- name: take
-- Renewed by its holder, taken by anybody else once it has run out. Every change of hands takes the next epoch.
insert into leases (name, holder, epoch, until) values ($1, $2, 1, now() + $3::interval)
on conflict (name) do update set
    holder = excluded.holder, until = excluded.until,
    epoch = leases.epoch + (leases.holder <> excluded.holder or leases.until < now())::int
where leases.holder = excluded.holder or leases.until < now()
returning epoch;

-- name: let go
update leases set until = now() - interval '1 microsecond' where name = $1 and holder = $2 and epoch = $3;

-- name: fence
-- Holds the lease's row until the transaction ends, so that nobody takes it in the middle of a write.
select true from leases where name = $1 and holder = $2 and epoch = $3 and until > now() for share;

-- name: all
select name, holder, epoch, until, until > now() as valid from leases order by name;
