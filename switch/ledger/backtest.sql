-- What a backtest reads. All of it inside transactions that may only read.

-- name: begin
begin transaction isolation level read committed read only

-- name: commit
commit

-- name: may_be_reader
select coalesce((select pg_has_role(current_user, r.oid, 'member')
                 from pg_roles r where r.rolname = 'citycard_reader'), false)

-- name: be_reader
set local role citycard_reader

-- name: statement_timeout
select set_config('statement_timeout', $1, true), set_config('work_mem', '64MB', true),
       set_config('cursor_tuple_fraction', '1', true)

-- Days on their way to the archive wait for who reads, and who reads for them.
-- name: lock_archive
select pg_advisory_xact_lock_shared(hashtextextended('citycard.' || $1, 0))

-- name: half_archived
select exists (select from ledger.loose_partitions() l
               where l.table_name = 'authorization_' || to_char($1::date, 'YYYYMMDD'))

-- name: shards
select value::integer from ledger.setting where name = 'shards'

-- name: rows_between
select count(*) from ledger.every_authorization where business_date between $1 and $2

-- name: has_history
select exists (select 1 from ledger.every_authorization where business_date between $1 and $2)

-- When a day begins in the ledger: what of the day before was posted later comes in between.
-- name: first_posted
select min(posted_at_us) from ledger.every_authorization
where business_date = $1 and shard = any ($2::smallint[])

-- A day of some shards in the order of posting; the columns are those of HistoryRow. With
-- results for the days that are assessed, and only what is counted for those before.
-- name: declare_day
declare backtest_day no scroll cursor for
select a.business_date, a.authorization_id, a.account_id, a.card_id, a.at_us, a.posted_at_us,
       a.kind, a.segment, a.acquirer, a.terminal, a.merchant, a.mcc, a.entry_mode, a.rrn,
       a.amount_minor, a.approved_minor, a.outcome, a.original_id, a.ruleset,
       case when $4 then a.rule_results else ''::bytea end, a.spent_count, a.spent_minor,
       a.spent_on, a.venue, a.stop, a.vehicle,
       coalesce(encode(m.medium, 'hex'), ''), coalesce(c.last4, '')
from ledger.every_authorization a
left join ledger.card c on c.shard = a.shard and c.card_id = a.card_id
left join lateral (
    select d.medium from ledger.medium d where d.card_id = a.card_id limit 1
) m on $4
where a.business_date = $1 and a.shard = any ($2::smallint[]) and a.posted_at_us < $3
  and ($4 or a.kind = any ($5::text[]))
order by a.posted_at_us, a.authorization_id

-- name: fetch_day
fetch forward 4000 from backtest_day

-- name: close_day
close backtest_day

-- Events of places of all shards, in the order of posting; null in $2 stands for every outcome.
-- name: declare_places
declare backtest_places no scroll cursor for
select a.posted_at_us, a.at_us, a.acquirer, a.merchant, a.terminal, a.card_id, a.kind,
       a.amount_minor, a.approved_minor, a.outcome, a.segment, a.mcc, a.venue, a.stop, a.vehicle
from ledger.every_authorization a
where a.business_date = $1 and a.kind = any ($3::text[])
  and ($2::text[] is null or a.outcome = any ($2::text[])) and a.posted_at_us < $4
order by a.posted_at_us, a.authorization_id

-- name: fetch_places
fetch forward 4000 from backtest_places

-- name: close_places
close backtest_places

-- The events that were given back whole on a day, and when: by one message, and not taken again.
-- name: place_events_given_back
select g.posted_at_us, a.at_us, a.acquirer, a.merchant, a.terminal, a.card_id, a.kind,
       a.amount_minor, a.approved_minor, a.outcome, a.segment, a.mcc, a.venue, a.stop, a.vehicle
from ledger.every_authorization g
join ledger.every_authorization a on a.authorization_id = g.original_id and a.shard = g.shard
 and a.business_date between $1::date - 1 and $1::date
where g.business_date = $1 and g.kind = any ($2::text[]) and g.outcome = 'approved'
  and g.approved_minor >= a.approved_minor and a.kind = any ($3::text[])
  and not exists (select 1 from ledger.every_authorization u
                  where u.original_id = g.authorization_id and u.shard = g.shard
                    and u.business_date between $1::date and $1::date + 1
                    and u.kind = 'reversal' and u.outcome = 'approved')
order by g.posted_at_us

-- What people said of authorizations: of one in several queues, fraud is what counts.
-- name: labels
select authorization_id, bool_or(verdict = 'fraud') as fraud
from ledger.review
where business_date between $1 and $2 and verdict in ('fraud', 'genuine')
group by authorization_id

-- name: rulesets
select hash, canonical from ledger.ruleset

-- name: live_ruleset
select canonical from ledger.ruleset where state = 'live'

-- name: lists
select name, field from ledger.rule_list

-- name: list_entries
select list, value, from_us, until_us from ledger.rule_list_entry

-- name: listings
select list, field, value, from_us, until_us from ledger.listing

-- name: snoozes
select rule_id, card_id, from_us, until_us from ledger.snooze

-- name: begin_job
insert into ledger.backtest (hash, from_date, to_date, closed_loop, actor)
values ($1, $2, $3, $4, $5) returning backtest_id

-- name: end_job
update ledger.backtest set state = $2, result = $3::jsonb, ended_at = clock_timestamp()
where backtest_id = $1 and state = 'running'

-- name: is_ledger
select to_regclass('ledger.authorization') is not null

-- name: days
select min(business_date) as first_day, max(business_date) as last_day
from ledger.every_authorization

-- Pins a day that goes on: what is posted later is not in it.
-- name: now_us
select (extract(epoch from clock_timestamp()) * 1000000)::bigint
