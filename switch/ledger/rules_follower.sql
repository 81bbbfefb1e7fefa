-- name: revision
select revision from ledger.rules_head

-- name: in_force
-- What decides or looks on. Texts that the worker has already ($1) are not read again.
select hash, state, canary_percent,
       case when hash = any($1::text[]) then null else canonical end as canonical
from ledger.ruleset
where state in ('live', 'canary', 'shadow')
order by created_at, hash

-- name: pauses
select rule_id, rule_version, automatic from ledger.rule_pause where lifted_at is null

-- name: snoozes
-- Those that are still to end.
select rule_id, card_id, from_us, until_us from ledger.snooze
where until_us > $1
order by snooze_id
limit $2

-- name: lists
select name, field from ledger.rule_list order by name

-- name: changed_lists
-- Lists that the audit trail says were changed since a revision.
select distinct substr(subject, 6) as name from ledger.rules_event
where revision > $1 and subject like 'list %'

-- name: entries
-- A page of a list, without what has ended.
select value, entry_id, from_us, until_us from ledger.rule_list_entry
where list = $1 and (value, entry_id) > ($3, $4) and (until_us is null or until_us > $2)
order by value, entry_id
limit $5

-- name: changed_values
-- What was put on or taken off a list since an instant: an entry is in force from a little
-- after it was written, and is taken off likewise.
select distinct value from ledger.rule_list_entry
where list = $1 and (from_us >= $2 or (removed_by <> '' and until_us >= $2))
limit $3

-- name: entries_of
-- All entries of these values, without what has ended.
select value, from_us, until_us from ledger.rule_list_entry
where list = $1 and value = any($2::text[]) and (until_us is null or until_us > $3)

-- name: listings
-- Entries that rules made in postings since an instant and that have not ended.
select shard, authorization_id, list, value, field, from_us, until_us
from ledger.listing
where posted_at_us >= $1 and until_us > $2
order by posted_at_us, authorization_id, shard, list, value
limit $3

-- name: cut_out
-- A worker took a rule out by itself. No other needs to know, so the revision stays.
insert into ledger.rules_event (actor, act, subject, reason, detail, revision)
select 'switch', 'cut_out', 'rule ' || $1, $2, $3::jsonb, revision from ledger.rules_head
