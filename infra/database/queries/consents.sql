-- Consents. Rows are only added; the newest of a purpose holds.

-- name: give
insert into consents (id, owner, purpose, granted, text_version, channel, ip)
values ($1, $2, $3, $4, $5, $6, $7::text::inet)
returning id, purpose, granted, text_version, channel, host(ip) as ip, at;

-- name: holding
select distinct on (purpose) purpose, granted from consents where owner = $1 order by purpose, seq desc;

-- name: allowed
select granted from consents where owner = $1 and purpose = $2 order by seq desc limit 1;

-- name: history
select id, purpose, granted, text_version, channel, host(ip) as ip, at
from consents where owner = $1 order by seq desc;
