-- Working keys of links and upstreams; see link_keys.py.

-- name: newest_link_key
select coalesce(max(sequence), 0) from ledger.link_key

-- name: link_keys
select k.link, k.sequence, k.usage, k.block, k.kcv,
       extract(epoch from clock_timestamp() - k.created_at)::float8 as age_seconds
from unnest($1::text[]) as l (link)
cross join lateral (
    select * from ledger.link_key k
    where k.link = l.link
    order by k.sequence desc, k.usage
    limit $2
) as k
order by k.link, k.sequence desc, k.usage

-- name: append_link_keys
insert into ledger.link_key (sequence, usage, link, block, kcv)
select s.next, w.usage, $1, w.block, w.kcv
from (select coalesce(max(sequence), 0) + 1 as next from ledger.link_key) as s,
     unnest($2::text[], $3::text[], $4::text[]) as w (usage, block, kcv)
returning sequence
