-- The books: read here, written together with what they are about (holds.sql, refunds.sql).

-- name: statement
select id, at, kind, usd_micros, currency, hold_id, call_id, reason from ledger_transactions
where party = $1 and ($2::text is null or id < $2)
order by id desc limit $3;

-- name: totals
select account, sum(usd_micros)::bigint as usd_micros from ledger_entries where party = $1 group by account;

-- name: imbalance
-- What the books are off by, in all and in the worst of their transactions.
select coalesce(sum(abs(total)), 0)::bigint as usd_micros from (
    select sum(usd_micros) as total from ledger_entries group by transaction_id, currency) as transactions;

-- name: differences
-- Whose accounts do not say what their holds and refunds say.
with books as (
    select party as owner,
        coalesce(sum(usd_micros) filter (where account = 'held'), 0) as held,
        coalesce(sum(usd_micros) filter (where account = 'owed'), 0) as owed,
        coalesce(sum(usd_micros) filter (where account = 'processor'), 0) as processor,
        coalesce(sum(usd_micros) filter (where account = 'revenue'), 0) as revenue,
        coalesce(sum(usd_micros) filter (where account = 'refunds'), 0) as refunds
    from ledger_entries group by party
), repaid as (
    select hold_id, sum(usd_micros) filter (where state = 'succeeded') as done,
        sum(usd_micros) filter (where state <> 'failed') as asked
    from refunds group by hold_id
), truth as (
    select owner,
        coalesce(sum(amount_usd_micros) filter (where state in ('held', 'capturing', 'releasing')), 0) as held,
        coalesce(sum(captured_usd_micros), 0) as captured,
        coalesce(sum(repaid.done), 0) as repaid,
        bool_and(refunded_usd_micros = coalesce(repaid.asked, 0)) as agreed
    from holds left join repaid on repaid.hold_id = holds.id group by owner
)
select owner, books.held as booked_held, truth.held, books.processor, truth.captured, truth.repaid
from truth left join books using (owner)
where coalesce(books.held, 0) <> truth.held
    or coalesce(books.owed, 0) <> -truth.held
    or coalesce(books.processor, 0) <> truth.captured - truth.repaid
    or coalesce(books.revenue, 0) <> -truth.captured
    or coalesce(books.refunds, 0) <> truth.repaid
    or not truth.agreed;

-- name: miscounted days
-- Days on which somebody's counted spending is not what their holds say.
select owner, day, coalesce(counted.usd_micros, 0) as counted, coalesce(truth.usd_micros, 0) as truth
from spend_days counted full join (
    select owner, day, sum(case
        when state in ('declined', 'released') then 0
        when state = 'captured' then captured_usd_micros
        else amount_usd_micros end) as usd_micros
    from holds group by owner, day
) as truth using (owner, day)
where coalesce(counted.usd_micros, 0) <> coalesce(truth.usd_micros, 0);
