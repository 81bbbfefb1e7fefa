-- Bill payments and inquiries; see bills.py. Instants are this server's.

-- name: note_inquiry
insert into ledger.bill_inquiry
    (inquiry_id, acquirer, biller, bill_no, amount_minor, payable, payable_until)
values ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7::integer * interval '1 second')

-- name: inquiry
select biller, bill_no, amount_minor, payable, payable_until > clock_timestamp() as holds_good
from ledger.bill_inquiry
where inquiry_id = $1 and acquirer = $2

-- name: open_bill
with opened as (
    insert into ledger.bill_payment
        (serial, acquirer, api, idempotency_hash, content_hash, biller, bill_no, once, medium,
         amount_minor, currency, state, next_at, cut_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'opened',
            clock_timestamp() + $12::integer * interval '1 millisecond',
            '1970-01-01 00:00:00+00'::timestamptz + $13::bigint * interval '1 microsecond')
    on conflict do nothing
    returning *
), told as (
    insert into ledger.bill_event (serial, state, reason)
    select serial, state, reason from opened
)
select *, cut_at <= clock_timestamp() as cut_passed from opened

-- name: same_bill
select *, cut_at <= clock_timestamp() as cut_passed
from ledger.bill_payment
where acquirer = $1 and idempotency_hash = $2

-- name: lock_holder
select p.state
from ledger.bill_payment p
where p.biller = $1 and p.bill_no = $2
  and (p.state in ('opened', 'held', 'confirming', 'in_doubt', 'releasing', 'reversing', 'suspense')
       or p.state = 'paid' and p.once)

-- name: bill
select *, cut_at <= clock_timestamp() as cut_passed from ledger.bill_payment where serial = $1

-- name: turn_bill
with turned as (
    update ledger.bill_payment p
    set state = $2,
        reason = coalesce($4, p.reason),
        hold_id = case when $5::bigint <> 0 then $5 else p.hold_id end,
        auth_code = case when $6 <> '' then $6 else p.auth_code end,
        rrn = case when $7 <> '' then $7 else p.rrn end,
        completion_id = case when $8::bigint <> 0 then $8 else p.completion_id end,
        receipt = case when $9 <> '' then $9 else p.receipt end,
        cut_at = case when $11::bigint = 0 then p.cut_at
                      else '1970-01-01 00:00:00+00'::timestamptz
                           + $11::bigint * interval '1 microsecond' end,
        tries = case when p.state = $2 then p.tries else 0 end,
        state_at = case when p.state = $2 then p.state_at else clock_timestamp() end,
        next_at = clock_timestamp() + $10::integer * interval '1 millisecond'
    where p.serial = $1 and p.state = any ($3::text[])
    returning *
), told as (
    insert into ledger.bill_event (serial, state, reason)
    select serial, state, reason from turned
)
select *, cut_at <= clock_timestamp() as cut_passed from turned

-- name: take_due_bills
with due as (
    select serial from ledger.bill_payment
    where state in ('opened', 'held', 'confirming', 'in_doubt', 'releasing', 'reversing', 'suspense')
      and next_at <= clock_timestamp()
    order by next_at
    limit $1
    for update skip locked
)
update ledger.bill_payment p
set tries = p.tries + 1,
    next_at = clock_timestamp() + least($2::bigint << least(p.tries, 20), $3) * interval '1 millisecond'
from due
where p.serial = due.serial
returning p.*, p.cut_at <= clock_timestamp() as cut_passed

-- name: open_bills
select state, count(*) as count,
       extract(epoch from clock_timestamp() - min(opened_at))::float8 as oldest_seconds
from ledger.bill_payment
where state in ('opened', 'held', 'confirming', 'in_doubt', 'releasing', 'reversing', 'suspense')
group by state

-- name: forget_inquiries
delete from ledger.bill_inquiry i
using (
    select inquiry_id from ledger.bill_inquiry
    where payable_until < clock_timestamp() - interval '1 day'
    limit $1
) as ended
where i.inquiry_id = ended.inquiry_id

-- name: lead_bills
select pg_try_advisory_lock(hashtextextended('citycard.bills', 0)) as leads
