-- By whose word people sign in.

-- name: find
select owner from identities where issuer = $1 and subject = $2;

-- name: link
insert into identities (id, owner, provider, issuer, subject, email) values ($1, $2, $3, $4, $5, $6);
