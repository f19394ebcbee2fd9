-- The do-not-call list: an append-only record of wishes; the last one about a number counts.

-- name: stop
-- What is booked for the number is dropped with the same act.
with wish as (
    insert into opt_outs (digest, stopped, channel, call_id) values ($1, true, $2, $3) returning digest
), dropped as (
    update scheduled_calls s set
        state = 'skipped', outcome = 'opted-out', note = $4, epoch = epoch + 1, repeat = null, changed_at = now()
    from numbers n, wish
    where n.digest = wish.digest and s.number_id = n.id and s.owner = n.owner
        and s.state in ('proposed', 'pending', 'holding', 'held')
    returning s.id, s.owner, s.call_id, s.lease_until
), left_over as (
    insert into scheduled_leftovers (call_id, owner, scheduled_id, not_before)
    select call_id, owner, id, coalesce(lease_until, now()) from dropped where call_id is not null
    on conflict (call_id) do nothing
)
select count(*) from dropped;

-- name: start
insert into opt_outs (digest, stopped, channel, call_id) values ($1, false, $2, $3);

-- name: stopped
select coalesce((select stopped from opt_outs where digest = $1 order by id desc limit 1), false);

-- name: digest of
-- The digest of an owner's own number.
select digest from numbers where id = $2 and owner = $1 and removed_at is null;
