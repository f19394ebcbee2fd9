-- Personas: the system's own and those of users. A user's row is only ever reached together with its owner.

-- name: page
-- One's own in the order they were made, then the system's.
select * from (
    (select p.*, 0 as rank from personas p
        where p.owner = $1 and p.removed_at is null and (0, p.id) > ($2::int, $3::text)
        order by p.id limit $4)
    union all
    (select p.*, 1 as rank from personas p
        where p.owner is null and p.slug is not null and p.removed_at is null and (1, p.id) > ($2::int, $3::text)
        order by p.id limit $4)
) both_kinds
order by rank, id limit $4;

-- name: get
select * from personas where id = $2 and (owner = $1 or owner is null) and removed_at is null;

-- name: lock
-- So that two requests at once do not both find room for one more.
select id from users where id = $1 and erased_at is null for no key update;

-- name: count
select count(*) from personas where owner = $1 and removed_at is null;

-- name: insert
insert into personas (id, owner, name, description, voice, prompt_sealed, language, max_minutes)
values ($1, $2, $3, $4, $5, $6, $7, $8)
returning *;

-- name: change
update personas set
    name = coalesce($3, name), description = coalesce($4, description), voice = coalesce($5, voice),
    voice_withdrawn_at = case when $5 is null then voice_withdrawn_at end,
    prompt_sealed = coalesce($6, prompt_sealed), language = coalesce($7, language),
    max_minutes = coalesce($8, max_minutes), version = version + 1, changed_at = now()
where owner = $1 and id = $2 and removed_at is null
returning *;

-- name: remove
-- The name stays for the history of calls; what made the persona goes.
with gone as (
    update personas set removed_at = now(), prompt_sealed = null, description = '', version = version + 1
    where owner = $1 and id = $2 and removed_at is null
    returning id
), forgotten as (
    delete from contacts using gone where persona_id = gone.id
)
select id from gone;

-- name: take
-- A later call at the same version keeps the snapshot longer. A voice that was withdrawn is left to the server.
insert into persona_snapshots (
    persona_id, version, owner, name, description, voice, prompt_sealed, language, max_minutes)
select id, version, owner, name, description, case when voice_withdrawn_at is null then voice else '' end,
    prompt_sealed, language, max_minutes
from personas where owner = $1 and id = $2 and removed_at is null
on conflict (persona_id, version) do update set taken_at = now()
returning persona_id, version;

-- name: taken
select *, persona_id as id, null::text as slug, null::text as prompt, null::timestamptz as voice_withdrawn_at,
    taken_at as created_at, taken_at as changed_at
from persona_snapshots where persona_id = $1 and version = $2;

-- name: drop snapshots
-- No call lasts for days; what was taken so long ago is needed by none.
delete from persona_snapshots where taken_at < $1;

-- name: seed
insert into personas (id, slug, name, description, voice, prompt, language, max_minutes)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (slug) where owner is null do update set
    name = excluded.name, description = excluded.description, voice = excluded.voice, prompt = excluded.prompt,
    language = excluded.language, max_minutes = excluded.max_minutes, removed_at = null,
    version = personas.version + 1, changed_at = now()
where (personas.name, personas.description, personas.voice, personas.prompt, personas.language,
        personas.max_minutes, personas.removed_at)
    is distinct from (excluded.name, excluded.description, excluded.voice, excluded.prompt, excluded.language,
        excluded.max_minutes, null::timestamptz)
returning id;

-- name: withdraw
-- A persona that this version of the server no longer has is offered to nobody, and its history stays.
update personas set removed_at = now() where owner is null and removed_at is null and slug <> all($1::text[])
returning id;

-- name: voices
-- The voices that users' personas have, each once; the index is walked from one to the next.
with recursive distinct_voices as (
    (select voice from personas where owner is not null and removed_at is null order by voice limit 1)
    union all
    select (select p.voice from personas p
        where p.owner is not null and p.removed_at is null and p.voice > d.voice order by p.voice limit 1)
    from distinct_voices d where d.voice is not null
)
select voice from distinct_voices where voice <> '';

-- name: flag voices
update personas set voice_withdrawn_at = case when voice = any($1::text[]) then now() end
where owner is not null and removed_at is null
    and voice = any($2::text[]) and (voice_withdrawn_at is null) = (voice = any($1::text[]))
returning id;
