-- Minute buckets of terminals, merchants and acquirers as workers follow them; they are written by
-- post_buckets. See bucket_follower.py.

-- name: recent_buckets
-- The newest minutes, and (minute null) from when on each series is complete.
select b.minute, b.series, b.key, sum(b.amount)::bigint as amount
from ledger.bucket b
where b.minute >= $1 and b.series = any ($2)
group by b.minute, b.series, b.key
union all
select null, s.series, null, s.since_us from ledger.bucket_series s where s.series = any ($2)

-- name: earlier_buckets
select b.minute, b.series, b.key, sum(b.amount)::bigint as amount
from ledger.bucket b
where b.minute >= $1 and b.minute < $2 and b.series = any ($3)
group by b.minute, b.series, b.key

-- name: declare_series
-- Complete from $2 on; from the beginning where nothing was ever counted and little was posted,
-- all of it by the operator's counter, whose own terminal no rule needs to count.
insert into ledger.bucket_series
select w.series,
       case when n.others = 0 and n.rows <= 50000
                 and not exists (select from ledger.bucket_series)
            then 0 else $2::bigint end
from unnest($1::bytea[]) as w (series)
cross join (select count(*) as rows, count(*) filter (where a.link <> 'counter') as others
            from (select f.link from ledger.authorization f limit 50001) a) n
on conflict do nothing

-- name: forget_series
-- What nobody writes any more has a gap from now on.
delete from ledger.bucket_series s where s.series <> all ($1)

-- name: drop_buckets
-- The oldest half hour of those before $1.
with gone as (
    delete from ledger.bucket b
    where b.minute < least($1::integer, (select min(o.minute) + 30 from ledger.bucket o))
    returning 1
)
select count(*) from gone
