-- Contacts: the personas that somebody keeps at hand, in their order.

-- name: all
select c.position, p.* from contacts c join personas p on p.id = c.persona_id
where c.owner = $1 and (p.owner = $1 or p.owner is null) and p.removed_at is null
order by c.position, c.persona_id;

-- name: lock
select id from users where id = $1 and erased_at is null for no key update;

-- name: count
select count(*) from contacts where owner = $1;

-- name: add
-- At the end; one who is there already stays where they are.
insert into contacts (owner, persona_id, position)
select $1, p.id, coalesce((select max(position) + 1 from contacts where owner = $1), 1)
from personas p where p.id = $2 and (p.owner = $1 or p.owner is null) and p.removed_at is null
on conflict (owner, persona_id) do update set position = contacts.position
returning position;

-- name: remove
delete from contacts where owner = $1 and persona_id = $2 returning persona_id;

-- name: ids
select c.persona_id from contacts c join personas p on p.id = c.persona_id
where c.owner = $1 and p.removed_at is null order by c.position, c.persona_id;

-- name: reorder
update contacts set position = wanted.place
from unnest($2::text[]) with ordinality as wanted (persona_id, place)
where contacts.owner = $1 and contacts.persona_id = wanted.persona_id;
