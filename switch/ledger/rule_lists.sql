-- Lists that rules look things up in, and their entries; see rule_lists.py.

-- name: lists
select l.name, l.field, l.title, l.created_at, l.created_by,
       (select count(*) from ledger.rule_list_entry e
        where e.list = l.name and e.from_us <= t.now_us
          and (e.until_us is null or e.until_us > t.now_us)) as standing
from ledger.rule_list l,
     (select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_us) t
order by l.name

-- name: listed_by_rules
select x.list, min(x.field) as field, count(distinct x.value) as standing
from ledger.listing x
where x.until_us > (extract(epoch from clock_timestamp()) * 1000000)::bigint
group by x.list
order by x.list

-- name: list_field
select field from ledger.rule_list where name = $1

-- name: lock_list
select field from ledger.rule_list where name = $1 for update

-- name: add_list
insert into ledger.rule_list (name, field, title, created_by) values ($1, $2, $3, $4)
on conflict do nothing
returning name

-- name: count_lists
select count(*) from ledger.rule_list

-- name: lock_head
select revision from ledger.rules_head for update

-- name: add_entries
-- What stands already, for as long at least, is not written again.
with given as (
    select g.value, g.reason, g.from_us, g.until_us
    from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[])
         as g (value, reason, from_us, until_us)
), added as (
    insert into ledger.rule_list_entry (list, value, reason, author, from_us, until_us)
    select $1, g.value, g.reason, $6, g.from_us, g.until_us
    from given g
    where not exists (
        select 1 from ledger.rule_list_entry e
        where e.list = $1 and e.value = g.value and e.from_us <= g.from_us
          and (e.until_us is null or e.until_us >= g.until_us))
    returning 1
)
select count(*) from added

-- name: count_entries
select count(*) from ledger.rule_list_entry
where list = $1 and (until_us is null or until_us > $2)

-- name: remove_entries
with removed as (
    update ledger.rule_list_entry
    set until_us = greatest(from_us, $3), removed_by = $4, removed_reason = $5
    where list = $1 and value = any ($2::text[]) and (until_us is null or until_us > $3)
    returning value
)
select count(distinct value) from removed

-- name: listed_by_rule
select distinct rule_id from ledger.listing
where list = $1 and value = any ($2::text[]) and until_us > $3
order by rule_id

-- name: entries
select entry_id, value, reason, author, from_us, until_us, removed_by, removed_reason
from ledger.rule_list_entry
where list = $1
  and ($2::bigint is null or from_us <= $2 and (until_us is null or until_us > $2))
order by entry_id desc
limit $3

-- name: listings_of
select value, rule_id, authorization_id, from_us, until_us
from ledger.listing
where list = $1 and ($2::bigint is null or from_us <= $2 and until_us > $2)
order by posted_at_us desc, authorization_id desc
limit $3

-- name: book_rows
select e.list, l.field, e.value, e.from_us, e.until_us
from ledger.rule_list_entry e
join ledger.rule_list l on l.name = e.list
where $1::bigint is null or e.until_us is null or e.until_us > $1
order by e.entry_id

-- name: book_fields
select name, field from ledger.rule_list order by name

-- name: listings_since
select shard, authorization_id, list, field, value, rule_id, from_us, until_us, posted_at_us
from ledger.listing
where posted_at_us > $1
order by posted_at_us, authorization_id

-- name: mediums_of_cards
select card_id, array_agg(medium order by medium) as mediums
from ledger.medium where card_id = any ($1::bigint[])
group by card_id

-- name: cards_of_mediums
select medium, card_id from ledger.medium where medium = any ($1::bytea[])
