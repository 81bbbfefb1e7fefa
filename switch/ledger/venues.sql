-- What `citycard venues` asks of a business day; see switch/commands/venues.py.

-- name: venue_counts
-- What the switch posts by itself (a repeat's record, a tombstone, an expiry that moved
-- nothing) is no message. Money is what acquirers got less what they gave back, by transfers.
with today as (
    select authorization_id, shard, venue, kind, outcome
    from ledger.every_authorization
    where business_date = $1 and venue <> ''
), messages as (
    select venue, count(*) as messages,
           count(*) filter (where outcome = 'approved') as approved
    from today
    where kind not in ('repeat', 'tombstone', 'hold_expiry')
    group by venue
), money as (
    select a.venue,
           sum(case when credited.chart_code = 'ACQ' then t.amount_minor else 0 end
             - case when debited.chart_code = 'ACQ' then t.amount_minor else 0 end)::bigint
               as money_minor
    from ledger.every_transfer t
    join today a using (authorization_id, shard)
    left join ledger.settlement_account credited
           on credited.settlement_account_id = t.credit_account_id
    left join ledger.settlement_account debited
           on debited.settlement_account_id = t.debit_account_id
    where t.business_date = $1
    group by a.venue
)
select venue, messages, approved, messages - approved as declined,
       coalesce(money_minor, 0) as money_minor
from messages left join money using (venue)
