-- What the demonstration asks of its ledger; see switch/demo.

-- name: drop_database
drop database if exists citycard with (force)

-- name: create_database
create database citycard

-- name: outcomes
select outcome, count(*) as authorizations, sum(approved_minor)::bigint as approved_minor
from ledger.authorization
where kind = 'purchase'
group by outcome
order by count(*) desc, outcome

-- name: totals
select (select count(*) from ledger.authorization) as authorizations,
       (select count(*) from ledger.transfer) as transfers

-- name: purchases
select terminal, stan, local_at, outcome, approved_minor, rrn
from ledger.authorization
where kind = 'purchase'

-- name: declines_to_explain
select distinct on (outcome)
       authorization_id, card_id, shard, to_timestamp(at_us / 1000000.0) as decided_at,
       (posted_at_us - at_us) as posting_us, (deadline_at_us - posted_at_us) as left_us,
       link, acquirer, terminal, merchant, mcc, stan, local_at, amount_minor, outcome, ruleset,
       explanation
from ledger.authorization
where kind = 'purchase' and outcome <> 'approved' and card_id <> 0
order by outcome, at_us desc
