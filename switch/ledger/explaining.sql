-- Any authorization and what became of it, archived days too; see explaining.py.

-- name: find_by_id
select authorization_id, shard, business_date from ledger.every_authorization
where authorization_id = $1 and ($2::date is null or business_date = $2)
order by business_date desc limit $3

-- name: find_by_key
select authorization_id, shard, business_date from ledger.every_authorization
where key = $1 and ($2::date is null or business_date = $2)
order by business_date desc, authorization_id desc limit $3

-- name: find_by_rrn
-- There is no index by RRN: the days between are read, unless the card is known.
select authorization_id, shard, business_date from ledger.every_authorization
where rrn = $1 and business_date between $2 and $3
order by business_date desc, authorization_id desc limit $4

-- name: find_by_rrn_of_card
select a.authorization_id, a.shard, a.business_date
from ledger.medium m
join ledger.every_authorization a on a.account_id = m.account_id and a.shard = m.shard
where m.card_id = $5 and a.card_id = $5 and a.rrn = $1 and a.business_date between $2 and $3
order by a.business_date desc, a.authorization_id desc limit $4

-- name: authorizations
select a.business_date, a.shard, a.authorization_id, a.account_id, a.card_id, a.at_us,
       a.posted_at_us, a.key, a.message_class, a.kind, a.segment, a.link, a.acquirer, a.terminal,
       a.merchant, a.mcc, a.entry_mode, a.stan, a.local_at, a.rrn, a.auth_code, a.currency,
       a.amount_minor, a.approved_minor, a.purse, a.outcome, a.original_id, a.ruleset,
       a.rule_results, a.explanation, a.venue, a.stop, a.vehicle,
       coalesce(c.last4, '') as last4, coalesce(r.state, '') as ruleset_state,
       coalesce(r.title, '') as ruleset_title, r.canonical
from unnest($1::bigint[], $2::smallint[], $3::date[]) with ordinality
     as k (authorization_id, shard, business_date, ordinal)
join ledger.every_authorization a on a.authorization_id = k.authorization_id
     and a.shard = k.shard and a.business_date = k.business_date
left join ledger.card c on c.shard = a.shard and c.card_id = a.card_id
left join ledger.ruleset r on r.hash = a.ruleset
order by k.ordinal

-- name: followers
select authorization_id, kind, outcome, approved_minor, at_us, explanation
from ledger.every_authorization
where original_id = $1 and original_id <> 0 and shard = $2 and business_date >= $3
order by at_us, authorization_id
limit $4

-- name: hold_of
select purpose, purse, amount_minor, status, expires_at_us, resolved_by
from ledger.hold where hold_id = $1 and shard = $2

-- name: tags_of
select tag, rule_id from ledger.tag where authorization_id = $1 and shard = $2 order by tag

-- name: listings_of_authorization
select list, field, value, rule_id, from_us, until_us
from ledger.listing where authorization_id = $1 and shard = $2 order by list, value

-- name: shadows_of
select distinct hash, rule_id, answered, shadow, sentence
from ledger.shadow_example where authorization_id = $1 order by hash

-- name: medium_of_card
select medium from ledger.medium where card_id = $1 order by medium limit 1

-- name: history_before
-- As load_batch had it: what the account's row was decided after, newest first.
select n.at_us, n.card_id, n.kind, n.amount_minor, n.approved_minor, n.outcome,
       n.authorization_id, n.original_id, n.segment, n.mcc, n.merchant, n.terminal,
       n.venue, n.stop, n.vehicle
from ledger.every_authorization n
where n.shard = $1 and n.account_id = $2 and n.account_id <> 0
  and n.at_us > $3 and n.business_date between $4::date - 1 and $4::date + 1
  and (n.posted_at_us, n.authorization_id) < ($5, $6)
  and (n.kind in ('purchase', 'load', 'preauthorization', 'offline_sale', 'fare', 'tap_on',
                  'tap_off', 'inspect', 'offline_fare', 'bill_inquiry', 'bill')
       or n.kind in ('reversal', 'void', 'preauthorization_cancel') and n.outcome = 'approved')
order by n.at_us desc
limit $7

-- name: entries_about
select e.list, l.field, e.value, e.from_us, e.until_us
from ledger.rule_list_entry e
join ledger.rule_list l on l.name = e.list
where e.list = any ($1::text[]) and e.value = any ($2::text[])
  and e.from_us <= $3 and (e.until_us is null or e.until_us > $3)
union all
select x.list, x.field, x.value, x.from_us, x.until_us
from ledger.listing x
where x.list = any ($1::text[]) and x.value = any ($2::text[])
  and x.from_us <= $3 and x.until_us > $3

-- name: snoozes_about
select rule_id, card_id, from_us, until_us, reason, author
from ledger.snooze where card_id = $1 and from_us <= $2 and until_us > $2
