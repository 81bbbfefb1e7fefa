-- The hotlist of readers: entries, versions, their bytes, acknowledgements; see hotlist.py.

-- name: add
select added_card_id from ledger.hotlist_add($1::bigint[], $2, $3, $4)

-- name: remove
select removed_card_id from ledger.hotlist_remove($1::bigint[], $2, $3)

-- name: standing
select e.card_id, coalesce(c.last4, '') as last4, e.reason, e.author,
       to_timestamp(e.added_us / 1000000.0) as added_at, e.expires_at,
       coalesce(e.added_version, 0) as version
from ledger.hotlist_entry e
left join ledger.card c on c.shard = e.shard and c.card_id = e.card_id
where e.removed_us is null
order by e.added_us desc, e.entry_id desc
limit $1

-- name: counts
select count(*) filter (where removed_us is null) as standing,
       count(*) filter (where removed_us is null and added_version is null) as to_add,
       count(*) filter (where removed_us is not null and added_version is not null
                              and removed_version is null) as to_remove
from ledger.hotlist_entry

-- name: expired_cards
select distinct card_id from ledger.hotlist_entry
where removed_us is null and expires_at <= clock_timestamp()
order by card_id

-- name: entries_to_publish
select entry_id, medium, removed_us is null as stands, added_version is not null as published
from ledger.hotlist_entry
where removed_us is null or (added_version is not null and removed_version is null)

-- name: mediums_of_version
select distinct medium from ledger.hotlist_entry
where added_version <= $1 and (removed_version is null or removed_version > $1)
order by medium

-- name: newest_version
select version, published_at, author, entries, added, removed, digest
from ledger.hotlist_version order by version desc limit 1

-- name: versions
select version, published_at, author, entries, added, removed, digest
from ledger.hotlist_version order by version desc limit $1

-- name: put_version
insert into ledger.hotlist_version (version, author, entries, added, removed, digest)
values ($1, $2, $3, $4, $5, $6)

-- name: put_octets
insert into ledger.hotlist_octets (version, from_version, octets) values ($1, $2, $3)

-- name: mark_published
with added as (
    update ledger.hotlist_entry set added_version = $1 where entry_id = any ($2::bigint[])
)
update ledger.hotlist_entry set removed_version = $1 where entry_id = any ($3::bigint[])

-- name: drop_old_octets
delete from ledger.hotlist_octets where version < $1

-- name: octets
select from_version, octets from ledger.hotlist_octets where version = $1 order by from_version

-- name: newest_and_acknowledged
select coalesce((select max(version) from ledger.hotlist_version), 0) as version,
       coalesce((select array_agg(a.acquirer order by a.acquirer) from
                 (select distinct acquirer from ledger.hotlist_acknowledged) a), '{}') as acquirers,
       coalesce((select array_agg(a.version order by a.acquirer) from
                 (select acquirer, max(version) as version
                  from ledger.hotlist_acknowledged group by acquirer) a), '{}') as acknowledged

-- name: acknowledge
with proven as (
    select version, digest from ledger.hotlist_version where version = $2 and digest = $3
), put as (
    insert into ledger.hotlist_acknowledged (acquirer, version, digest)
    select $1, version, digest from proven
    on conflict do nothing
)
select exists (select 1 from proven)

-- name: acknowledgements
select distinct on (a.acquirer) a.acquirer, a.version, a.acknowledged_at,
       (select coalesce(max(version), 0) from ledger.hotlist_version) - a.version as behind
from ledger.hotlist_acknowledged a
order by a.acquirer, a.version desc
