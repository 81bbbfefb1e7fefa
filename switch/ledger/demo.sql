-- What the demonstration asks of its ledger; see switch/demo.

-- name: drop_database
drop database if exists citycard with (force)

-- name: create_database
create database citycard

-- name: outcomes
-- Messages of acquirers and readers; a switch's own records are none.
select outcome, count(*) as authorizations, sum(approved_minor)::bigint as approved_minor
from ledger.authorization
where link = any($1) and kind not in ('repeat', 'tombstone', 'hold_expiry', 'incomplete_fare')
group by outcome
order by count(*) desc, outcome

-- name: totals
select (select count(*) from ledger.authorization) as authorizations,
       (select count(*) from ledger.transfer) as transfers

-- name: messages
-- Every message that has an answer, under the key that a journal has it by; one that was
-- taken back (answered too late, or by who sent it) stands for nothing.
select case when a.message_class = '02' and a.link = any($2)
            then 'sale-' || encode(a.key, 'hex')
            else a.terminal || '-' || a.stan || '-' || a.local_at || '-' || a.message_class
       end as key,
       a.kind, a.outcome, a.rrn,
       case when a.kind = 'fare_credit' then -a.approved_minor else a.approved_minor end
           as approved_minor,
       a.outcome = 'approved' as approved,
       exists (
           select 1 from ledger.authorization r
           where r.original_id = a.authorization_id and r.shard = a.shard
             and r.kind = 'reversal' and r.outcome = 'approved'
       ) as taken_back
from ledger.authorization a
where a.link = any($1)
  and a.kind not in ('repeat', 'tombstone', 'hold_expiry', 'incomplete_fare', 'reversal')
  -- a step of a bill payment is held against the payment, and that against the biller
  and not (a.link = any($2) and a.kind not in ('purchase', 'refund'))

-- name: bills
select encode(serial, 'hex') as serial, biller, state, amount_minor
from ledger.bill_payment

-- name: declines_to_explain
select distinct on (outcome)
       authorization_id, card_id, shard, to_timestamp(at_us / 1000000.0) as decided_at,
       (posted_at_us - at_us) as posting_us, (deadline_at_us - posted_at_us) as left_us,
       link, acquirer, terminal, merchant, mcc, stan, local_at, amount_minor, outcome, ruleset,
       explanation
from ledger.authorization
where kind = 'purchase' and link = $1 and outcome <> 'approved' and card_id <> 0
order by outcome, at_us desc
