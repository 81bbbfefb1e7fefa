-- Mandates and debit files; see debits.py for the states of a file.

-- name: card_of_medium
select card_id from ledger.medium where medium = $1

-- name: give_mandate
with m as (
    insert into ledger.mandate (biller, customer, card_id, amount_max_minor)
    values ($1, $2, $3, $4)
    on conflict (biller, customer) where ended_at is null do nothing
    returning *
)
select m.*, c.last4 from m
cross join lateral (select shard from ledger.medium k where k.card_id = m.card_id limit 1) k
join ledger.card c on c.shard = k.shard and c.card_id = m.card_id

-- name: end_mandate
with m as (
    update ledger.mandate set ended_at = clock_timestamp()
    where biller = $1 and customer = $2 and ended_at is null
    returning *
)
select m.*, c.last4 from m
cross join lateral (select shard from ledger.medium k where k.card_id = m.card_id limit 1) k
join ledger.card c on c.shard = k.shard and c.card_id = m.card_id

-- name: mandates
select m.*, c.last4 from ledger.mandate m
cross join lateral (select shard from ledger.medium k where k.card_id = m.card_id limit 1) k
join ledger.card c on c.shard = k.shard and c.card_id = m.card_id
where m.biller = $1 and ($2 = '' or m.customer = $2) and (m.ended_at is null or $3)
order by m.mandate_id desc
limit $4

-- name: begin_debit_file
insert into ledger.debit_file (biller, name, local_at, row_count, total_minor)
values ($1, $2, $3, $4, $5)
returning file_number

-- name: add_debit_rows
with file as (
    update ledger.debit_file set touched_at = clock_timestamp()
    where file_number = $1 and state = 'arriving'
    returning file_number
)
insert into ledger.debit_row
select file.file_number, r.* from file, unnest(
    $2::integer[], $3::bigint[], $4::date[], $5::text[], $6::text[], $7::text[], $8::text[]
) as r

-- name: accept_debit_file
update ledger.debit_file set state = 'accepted', sha256 = $2, accepted_at = clock_timestamp()
where file_number = $1 and state = 'arriving'

-- name: drop_debit_file
update ledger.debit_file set state = 'dropped', touched_at = clock_timestamp()
where file_number = $1 and state = 'arriving'

-- name: debit_file
select * from ledger.debit_file
where biller = $1 and name = $2 and state not in ('arriving', 'dropped')

-- name: cancel_debit_file
update ledger.debit_file set state = 'cancelling'
where file_number = $1 and state in ('accepted', 'running')

-- name: lead_debits
select pg_try_advisory_lock(hashtextextended('citycard.debits', 0))

-- name: next_debit_file
select * from ledger.debit_file
where state in ('accepted', 'running', 'cancelling') and biller = any ($1::text[])
order by accepted_at, file_number
limit 1

-- name: take_debit_rows
update ledger.debit_file
set state = 'running', taken_through = least(row_count, taken_through + $2)
where file_number = $1 and state in ('accepted', 'running')
returning taken_through

-- A serial that stands twice in a file is collected the first time. One of another file has
-- been, if it was taken there and not refused. Each look-up is fenced (limit, offset): a file is
-- worked off before anything was counted about it, and no plan may begin with all its rows.
-- name: debit_rows_taken
select r.row_number, r.amount_minor, r.serial, r.customer, r.type, k.medium, m.amount_max_minor,
       exists (
           select from (
               select o.file_number, o.row_number from ledger.debit_row o
               where o.serial = r.serial and o.due_on = r.due_on
               offset 0
           ) o
           cross join lateral (
               select g.biller, g.taken_through from ledger.debit_file g
               where g.file_number = o.file_number
               offset 0
           ) g
           where g.biller = f.biller
             and case when o.file_number = r.file_number then o.row_number < r.row_number
                      else o.row_number <= g.taken_through and not exists (
                          select from ledger.debit_result p
                          where p.file_number = o.file_number and p.row_number = o.row_number
                            and p.result <> 'approved'
                          offset 0
                      ) end
       ) as is_duplicate
from (select file_number, biller from ledger.debit_file where file_number = $1 offset 0) f
cross join lateral (
    select r.* from ledger.debit_row r
    where r.file_number = f.file_number and r.row_number > $2 and r.row_number <= $3
      and not exists (
          select from ledger.debit_result p
          where p.file_number = r.file_number and p.row_number = r.row_number
          offset 0
      )
    order by r.row_number
    limit $4
) r
left join lateral (
    select m.card_id, m.amount_max_minor from ledger.mandate m
    where m.biller = f.biller and m.customer = r.customer and m.ended_at is null
    limit 1
) m on true
left join lateral (
    select medium from ledger.medium k where k.card_id = m.card_id limit 1
) k on true
order by r.row_number

-- Looked for on all attached days: it is asked after a restart, however long that took.
-- name: debits_posted
select key, outcome, approved_minor, authorization_id from ledger.authorization
where key = any ($1::bytea[]) and kind = 'bill'

-- name: write_debit_results
with written as (
    insert into ledger.debit_result
    select $1, r.* from unnest($2::integer[], $3::bigint[], $4::bigint[], $5::text[]) as r
    on conflict (file_number, row_number) do nothing
    returning result, collected_minor
)
update ledger.debit_file set
    answered_count = answered_count + (select count(*) from written),
    collected_count = collected_count
        + (select count(*) from written where result = 'approved'),
    collected_minor = collected_minor
        + (select coalesce(sum(collected_minor), 0) from written)
where file_number = $1

-- name: end_debit_file
update ledger.debit_file
set state = case state when 'cancelling' then 'cancelled' else 'done' end,
    ended_at = clock_timestamp()
where file_number = $1 and state in ('accepted', 'running', 'cancelling')
  and answered_count = row_count

-- name: debit_results
select r.row_number, r.amount_minor, r.due_on, r.serial, r.customer, r.sub_channel, r.type,
       coalesce(p.result, '') as result, coalesce(p.collected_minor, 0) as collected_minor
from ledger.debit_row r
left join ledger.debit_result p
    on p.file_number = r.file_number and p.row_number = r.row_number
where r.file_number = $1 and r.row_number > $2 and r.row_number <= $3
order by r.row_number

-- name: abandoned_debit_files
select file_number, row_count from ledger.debit_file
where state = 'dropped' or state = 'arriving' and touched_at < clock_timestamp() - $1::interval
limit 1

-- name: forget_debit_rows
with file as (
    update ledger.debit_file set state = 'dropped'
    where file_number = $1 and state in ('arriving', 'dropped')
    returning file_number
)
delete from ledger.debit_row r using file
where r.file_number = file.file_number and r.row_number > $2 and r.row_number <= $3

-- name: forget_debit_file
delete from ledger.debit_file where file_number = $1 and state = 'dropped'
