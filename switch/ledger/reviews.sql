-- Authorizations that rules put before a person; see reviews.py.

-- name: open_reviews
select r.authorization_id, r.queue, r.rule_id, r.card_id, coalesce(c.last4, '') as last4, r.at_us,
       r.business_date, r.verdict, r.closed_by, r.closed_at, r.note,
       coalesce(a.kind, '') as kind, coalesce(a.outcome, '') as outcome,
       coalesce(a.amount_minor, 0) as amount_minor, coalesce(a.explanation, '') as explanation
from (
    select * from ledger.review
    where verdict = '' and ($1 = '' or queue = $1) and ($2::bigint is null or at_us > $2)
    order by at_us, authorization_id
    limit $3
) r
left join ledger.every_authorization a on a.authorization_id = r.authorization_id
     and a.shard = r.shard and a.business_date = r.business_date
left join ledger.card c on c.shard = r.shard and c.card_id = r.card_id
order by r.at_us, r.authorization_id, r.queue

-- name: review_queues
select queue, count(*) as open_count, min(at_us) as oldest_us
from ledger.review where verdict = '' group by queue order by queue

-- name: close_reviews
update ledger.review
set verdict = $3, closed_by = $4, note = $5, closed_at = clock_timestamp()
where authorization_id = $1 and ($2 = '' or queue = $2) and verdict = ''
returning queue, rule_id

-- name: reviews_of
select queue, rule_id, verdict, closed_by, closed_at, note
from ledger.review where authorization_id = $1 order by queue
