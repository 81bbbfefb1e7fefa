-- Cards spared from a rule for a while; see snoozes.py.

-- name: card_exists
select exists (select 1 from ledger.medium where card_id = $1)

-- name: count_snoozes
select count(*) from ledger.snooze where until_us > $1

-- name: add_snooze
insert into ledger.snooze (rule_id, card_id, from_us, until_us, reason, author)
values ($1, $2, $3, $4, $5, $6)
returning snooze_id

-- name: lift_snoozes
update ledger.snooze
set until_us = greatest(from_us, $3), lifted_by = $4
where rule_id = $1 and card_id = $2 and until_us > $3
returning snooze_id

-- name: snoozes
select s.snooze_id, s.rule_id, s.card_id, coalesce(c.last4, '') as last4, s.from_us, s.until_us,
       s.reason, s.author, s.lifted_by
from ledger.snooze s
left join ledger.medium m on m.card_id = s.card_id
     and m.medium = (select min(n.medium) from ledger.medium n where n.card_id = s.card_id)
left join ledger.card c on c.shard = m.shard and c.card_id = s.card_id
where s.until_us > $1 and ($2::bigint is null or s.card_id = $2)
order by s.snooze_id desc
