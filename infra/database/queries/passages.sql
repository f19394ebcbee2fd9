-- Passages of past conversations. Every statement names the owner first.

-- name: insert
insert into passages (call_id, number, owner, who, at, text_sealed, model, embedding, signature, words)
select c.id, t.number, $1, t.who, t.at, t.text_sealed, $3, t.embedding::halfvec, t.signature::bit(512),
    array_to_tsvector(string_to_array(t.words, ' '))
from calls c, unnest($4::int[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[])
    as t (number, who, at, text_sealed, embedding, signature, words)
where c.id = $2 and c.owner = $1
on conflict (call_id, number) do update set
    text_sealed = excluded.text_sealed, model = excluded.model, embedding = excluded.embedding,
    signature = excluded.signature, words = excluded.words
returning number;

-- name: near
with likely as materialized (
    select call_id, number from passages
    where owner = $1 and model = $2
    order by signature <~> $4::text::bit(512) limit $5
)
select p.call_id, p.number, 1 - (p.embedding <=> $3::text::halfvec) as closeness
from likely join passages p using (call_id, number)
where p.owner = $1
order by p.embedding <=> $3::text::halfvec limit $6;

-- name: said
select call_id, number, ts_rank(words, $2::text::tsquery) as closeness
from passages where owner = $1 and words @@ $2::text::tsquery
order by closeness desc, call_id desc, number limit $3;

-- name: read
select p.call_id, p.number, p.who, p.at, p.text_sealed, c.persona_id, speaker.name as persona
from unnest($2::text[], $3::int[]) as wanted (call_id, number)
join passages p using (call_id, number)
join calls c on c.id = p.call_id
left join personas speaker on speaker.id = c.persona_id
where p.owner = $1;

-- name: forget
delete from passages where owner = $1 and call_id = $2;

-- name: expired
-- Calls whose people wanted, or let, what was said go by now. The time runs from the end of the call.
select c.id from calls c left join users u on u.id = c.owner
where c.ended_at < $1::timestamptz - make_interval(days => coalesce(u.transcript_days, $2))
    and (exists (select from call_turns t where t.call_id = c.id) or exists (select from passages p where p.call_id = c.id))
order by c.ended_at limit $3;

-- name: drop turns
-- The place in the conversation holds the last words too.
with emptied as (
    update calls set flow = '{}' where id = any($1::text[])
)
delete from call_turns where call_id = any($1::text[]);

-- name: drop passages
delete from passages where call_id = any($1::text[]);
