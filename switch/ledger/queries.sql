-- Named queries of the ledger's rooms around the hot path; see sql.py.

-- name: begin
begin

-- name: begin_snapshot
begin isolation level repeatable read, read only

-- name: commit
commit

-- name: rollback
rollback

-- name: lock_until_commit
select pg_advisory_xact_lock(hashtextextended('citycard.' || $1, 0))

-- name: lock_exclusive
select pg_advisory_lock(hashtextextended('citycard.' || $1, 0))

-- name: lock_shared
select pg_advisory_lock_shared(hashtextextended('citycard.' || $1, 0))

-- name: unlock_exclusive
select pg_advisory_unlock(hashtextextended('citycard.' || $1, 0))

-- name: unlock_shared
select pg_advisory_unlock_shared(hashtextextended('citycard.' || $1, 0))

-- name: set_lock_timeout
select set_config('lock_timeout', $1, false)

-- name: has_ledger
select to_regclass('ledger.migration') is not null

-- name: applied_migrations
select version from ledger.migration order by version

-- name: record_migration
insert into ledger.migration (version, name) values ($1, $2)

-- name: drop_functions
do $$
declare
    stale regprocedure;
begin
    for stale in
        select p.oid::regprocedure from pg_proc p
        where p.pronamespace = 'ledger'::regnamespace and p.prorettype <> 'trigger'::regtype
    loop
        execute format('drop function %s', stale);
    end loop;
end $$

-- name: settings
select name, value from ledger.setting

-- name: put_setting
insert into ledger.setting (name, value) values ($1, $2)
on conflict (name) do update set value = excluded.value

-- name: put_new_settings
insert into ledger.setting (name, value)
select w.name, w.value from unnest($1::text[], $2::text[]) as w (name, value)
on conflict (name) do nothing

-- name: open_settlement_accounts
insert into ledger.settlement_account (chart_code, owner)
select w.chart_code, w.owner from unnest($1::text[], $2::text[]) as w (chart_code, owner)
where not exists (
    select 1 from ledger.settlement_account a
    where a.chart_code = w.chart_code and a.owner = w.owner
)
on conflict (chart_code, owner) do nothing

-- name: settlement_accounts
select chart_code, owner, settlement_account_id from ledger.settlement_account

-- name: durability
select current_setting('server_version_num')::integer as server_version_num,
       current_setting('server_version') as server_version,
       current_setting('fsync') as fsync,
       current_setting('full_page_writes') as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit

-- name: business_date
select ((now() at time zone z.value) - c.value::interval)::date
from ledger.setting z, ledger.setting c
where z.name = 'time_zone' and c.name = 'cut_off'

-- name: make_partitions
select d::date as business_date
from generate_series($1::date, $2::date, interval '1 day') as d
where ledger.make_partitions(d::date)
order by 1

-- name: list_partitions
select business_date, table_name, row_estimate, bytes from ledger.list_partitions()

-- name: detach_statements
select table_name, statement from ledger.detach_statements($1)

-- name: loose_partitions
select table_name from ledger.loose_partitions()

-- name: archive_partition
select ledger.archive_partition($1)

-- name: issue_batch
select medium, shard, account_id, card_id, issued
from ledger.issue_batch($1, $2, $3, $4, $5, $6, $7, $8)

-- name: find_card
select k.card_id, k.account_id, k.shard, c.last4
from ledger.medium k
join ledger.card c on c.shard = k.shard and c.card_id = k.card_id
where k.card_id = $1

-- name: find_medium
select k.card_id, k.account_id, k.shard, c.last4
from ledger.medium k
join ledger.card c on c.shard = k.shard and c.card_id = k.card_id
where k.medium = $1

-- name: set_card_status
select previous_status from ledger.set_card_status($1, $2, $3)

-- name: show_card
select c.card_id, c.account_id, c.shard, c.last4, c.expires_yymm, c.status, c.status_reason,
       c.issued_at, c.hotlisted, a.status as account_status, a.tier, a.product
from ledger.medium k
join ledger.card c on c.shard = k.shard and c.card_id = k.card_id
join ledger.account a on a.shard = c.shard and a.account_id = c.account_id
where k.card_id = $1

-- name: show_purses
select purse, balance_minor, held_minor, floor_minor, month, month_count, month_minor
from ledger.purse where shard = $1 and account_id = $2 order by purse

-- name: show_holds
select hold_id, authorization_id, purpose, purse, amount_minor, currency,
       to_timestamp(opened_at_us / 1000000.0) as opened_at,
       to_timestamp(expires_at_us / 1000000.0) as expires_at,
       merchant, terminal, acquirer, rrn, auth_code
from ledger.hold
where account_id = $2 and shard = $1 and status = 'open'
order by opened_at_us, hold_id

-- name: due_holds
select shard, hold_id, account_id, card_id, purse, purpose, amount_minor, authorization_id,
       expires_at_us, segment, acquirer, link, terminal, merchant, mcc, rrn, auth_code, currency,
       venue
from ledger.hold
where status = 'open' and expires_at_us <= $1 and hold_id <> all ($2::bigint[])
order by expires_at_us
limit $3

-- name: show_authorizations
select authorization_id, to_timestamp(at_us / 1000000.0) as decided_at, kind, merchant, terminal,
       acquirer, amount_minor, approved_minor, currency, purse, outcome, explanation
from ledger.authorization
where account_id = $2 and shard = $1 and card_id = $3
order by at_us desc, authorization_id desc
limit $4

-- name: audit
select name, invariant, examined, findings, first from ledger.audit($1, $2)

-- name: link_totals
select side, entries, amount_minor from ledger.link_totals($1, $2, $3)

-- ---- rights to fare classes, chips (0005) ----

-- name: grant_entitlement
select ledger.grant_entitlement($1, $2, $3, $4, $5, $6)

-- name: revoke_entitlements
select entitlement_id from ledger.revoke_entitlements($1, $2, $3, $4, $5)

-- name: show_entitlements
select entitlement_id, fare_class, to_timestamp(from_us / 1000000.0) as valid_from,
       to_timestamp(until_us / 1000000.0) as valid_until, granted_by,
       to_timestamp(revoked_at_us / 1000000.0) as revoked_at
from ledger.entitlement
where account_id = $2 and shard = $1
order by from_us, entitlement_id

-- name: show_chip
select highest, proven_counter, proven_missing_minor,
       (select coalesce(sum(upper(u.gap) - lower(u.gap)), 0) from unnest(missing) as u (gap))::integer
           as missing_count
from ledger.chip
where card_id = $2 and shard = $1
