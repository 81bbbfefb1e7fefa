-- The book of requests that went to hosts of other issuers; see forwarding.py.

-- name: draw_stans
select to_char(nextval('ledger.forward_stan'), 'FM000000') as stan from generate_series(1, $1)

-- name: open_forwards
-- What is about another request is posted where that one was, so that the ledger finds it.
with asked as (
    select a.key, coalesce(o.shard, a.shard) as shard, a.upstream, a.payload_hash, a.stan,
           a.transmitted_at, a.amount_minor, a.request, a.remaining_us, a.sendable, a.again,
           a.place, coalesce(o.stan, '') as original_stan,
           coalesce(o.transmitted_at, '') as original_transmitted_at
    from unnest($1::smallint[], $2::bytea[], $3::text[], $4::bytea[], $5::text[], $6::text[],
                $7::bigint[], $8::bytea[], $9::bigint[], $10::boolean[], $11::boolean[],
                $12::bytea[]) with ordinality
         as a (shard, key, upstream, payload_hash, stan, transmitted_at, amount_minor, request,
               remaining_us, sendable, again, original_key, place)
    left join ledger.forwarded o on o.key = a.original_key
), written as (
    insert into ledger.forwarded
        (shard, key, upstream, payload_hash, stan, transmitted_at, amount_minor, request,
         state, answer_by)
    select shard, key, upstream, payload_hash, stan, transmitted_at, amount_minor, request,
           'sent', now() + remaining_us * interval '1 microsecond'
    from asked where sendable
    on conflict (key, shard) do nothing
    returning key, shard
), reopened as (
    -- An advice is repeated until it is taken: what was reversed meanwhile is sent anew.
    update ledger.forwarded f
    set state = 'sent', stan = a.stan, transmitted_at = a.transmitted_at, tries = 0,
        answer_by = now() + a.remaining_us * interval '1 microsecond', updated_at = now()
    from asked a
    where f.key = a.key and f.shard = a.shard and f.payload_hash = a.payload_hash
      and a.sendable and a.again and f.state = 'reversed'
    returning f.key, f.shard
)
-- A row that another process is writing at this moment is neither written nor seen.
select w.key is not null or r.key is not null as written, f.state,
       f.payload_hash = a.payload_hash as same, a.shard, a.original_stan,
       a.original_transmitted_at
from asked a
left join written w on w.key = a.key and w.shard = a.shard
left join reopened r on r.key = a.key and r.shard = a.shard
left join ledger.forwarded f on f.key = a.key and f.shard = a.shard
order by a.place

-- name: turn_forwards
update ledger.forwarded f
set state = t.state, updated_at = now(),
    reversing_since = case when t.state = 'reversing' then now() else f.reversing_since end,
    next_try_at = case when t.state = 'reversing' then now() else f.next_try_at end
from unnest($1::smallint[], $2::bytea[], $3::text[], $4::text[]) as t (shard, key, state, states_before)
where f.key = t.key and f.shard = t.shard
  and f.state = any (string_to_array(t.states_before, ' '))

-- name: reverse_forwards
with asked as (
    select a.key, coalesce(o.shard, a.shard) as shard, a.upstream, a.payload_hash,
           coalesce(o.stan, a.stan) as stan,
           coalesce(o.transmitted_at, a.transmitted_at) as transmitted_at,
           a.amount_minor, a.request, a.partial, a.place, a.original_key, o.state,
           -- while its answer may still be under way, its reversal must not overtake it
           case when o.state = 'sent' then o.answer_by else now() end as next_try_at
    from unnest($1::smallint[], $2::bytea[], $3::text[], $4::bytea[], $5::text[], $6::text[],
                $7::bigint[], $8::bytea[], $9::bytea[], $10::boolean[]) with ordinality
         as a (shard, key, upstream, payload_hash, stan, transmitted_at, amount_minor, request,
               original_key, partial, place)
    left join ledger.forwarded o on o.key = a.original_key and o.upstream = a.upstream
), turned as (
    update ledger.forwarded f
    set state = 'reversing', updated_at = now(), reversing_since = now(),
        next_try_at = a.next_try_at
    from asked a
    where f.key = a.original_key and f.shard = a.shard and not a.partial
      and f.state in ('sent', 'approved')
), written as (
    -- What was never sent under this key, or is given back in part, is a row of its own.
    insert into ledger.forwarded
        (shard, key, upstream, payload_hash, stan, transmitted_at, amount_minor, request,
         state, answer_by, reversing_since, next_try_at)
    select shard, key, upstream, payload_hash, stan, transmitted_at, amount_minor, request,
           'reversing', now(), now(), next_try_at
    from asked where state is null or (partial and state in ('sent', 'approved'))
    on conflict (key, shard) do nothing
)
select shard from asked order by place

-- name: take_due_reversals
with due as (
    select f.key, f.shard, row_number() over (order by f.reversing_since, f.key) as place
    from (
        select key, shard, reversing_since from ledger.forwarded
        where upstream = $1 and state = 'reversing' and next_try_at <= now()
        order by reversing_since, key
        limit $2
        for update skip locked
    ) f
)
update ledger.forwarded f
set tries = f.tries + 1, updated_at = now(),
    next_try_at = now() + least($3::bigint << least(f.tries, 20), $4) * interval '1 second',
    reversal_stan = case when f.tries = 0
                         then to_char(nextval('ledger.forward_stan'), 'FM000000')
                         else f.reversal_stan end,
    reversal_transmitted_at = case when f.tries = 0 then $5 else f.reversal_transmitted_at end
from due
where f.key = due.key and f.shard = due.shard
returning due.place, f.shard, f.key, f.stan, f.transmitted_at, f.amount_minor, f.request,
          f.tries, f.reversal_stan, f.reversal_transmitted_at

-- name: take_orphans
-- Rows whose process is gone, or was too busy for too long: leased, so that another process
-- takes them up only when this one does not come to an end with them either.
update ledger.forwarded f
set answer_by = now() + $3 * interval '1 microsecond'
from (
    select key, shard from ledger.forwarded
    where state = 'sent' and answer_by < now() - $2 * interval '1 microsecond'
      and upstream = any ($1)
    order by answer_by
    limit $4
    for update skip locked
) o
where f.key = o.key and f.shard = o.shard
returning f.shard, f.key, f.upstream, f.request,
    exists (
        select from ledger.every_authorization a
        where a.key = f.key and a.shard = f.shard and a.outcome = 'approved'
          and not exists (
              select from ledger.every_authorization r
              where r.account_id = a.account_id and r.shard = a.shard
                and r.at_us >= a.at_us and r.original_id = a.authorization_id
                and r.kind = 'reversal' and r.approved_minor >= a.approved_minor)
    ) as stands

-- name: forward_queues
select upstream, count(*) as depth,
       extract(epoch from now() - min(reversing_since))::float8 as oldest_seconds
from ledger.forwarded where state = 'reversing' group by upstream

-- name: lead
select pg_try_advisory_lock(hashtextextended('citycard.forward.' || $1, 0)) as leads

-- name: stop_leading
select pg_advisory_unlock(hashtextextended('citycard.forward.' || $1, 0))

-- name: forget_forwards
delete from ledger.forwarded f
using (
    select key, shard from ledger.forwarded
    where state in ('approved', 'declined', 'reversed', 'given_up')
      and updated_at < now() - $1 * interval '1 day'
    limit $2
) o
where f.key = o.key and f.shard = o.shard
