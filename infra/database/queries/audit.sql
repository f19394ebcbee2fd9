-- The audit chain. Number, time and hash of a row are set by the table's own trigger.

-- name: note
insert into audit (actor, subject, action, context) values ($1, $2, $3, $4::jsonb);

-- name: of subject
select seq, at, actor, action, context from audit where subject = $1 order by seq;

-- name: broken
-- The first row that does not say what its hash says, or does not follow the row before it.
select seq from (
    select seq, previous, hash, lag(hash) over chain as hash_before, lag(seq) over chain as seq_before,
        audit_hash(previous, seq, at, actor, subject, action, context) as hash_found
    from audit window chain as (order by seq)
) link
where hash <> hash_found or (seq_before is not null and (previous <> hash_before or seq <> seq_before + 1))
    or (seq = 1 and previous <> '\x')
order by seq limit 1;
