-- Prices: rows with a date, each in force until the next of its product.

-- name: at
select * from prices where product = $1 and since <= $2 order by since desc limit 1;

-- name: get
select * from prices where id = $1;

-- name: all
select * from prices order by product, since desc;

-- name: add
insert into prices (id, product, since, call_usd_micros, minute_usd_micros) values ($1, $2, $3, $4, $5) returning *;
