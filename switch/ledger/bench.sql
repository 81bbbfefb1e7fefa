-- One authorization as most software posts it: a transaction that stays open while the
-- program thinks, a statement at a time. The work is that of load_batch and post_batch, so
-- the two can be compared; see bench.py.

-- name: lock_account
select version, status, tier, product from ledger.account
where shard = $1 and account_id = $2 for update

-- name: card
select status, expires_yymm, last4 from ledger.card where shard = $1 and card_id = $2

-- name: purses
select purse, balance_minor, held_minor, floor_minor, month_count, month_minor
from ledger.purse where shard = $1 and account_id = $2

-- name: stored
select authorization_id, payload_hash, outcome from ledger.authorization
where shard = $1 and key = $2 and business_date between $3::date - 1 and $3::date + 1

-- name: history
select at_us, card_id, kind, amount_minor, outcome, authorization_id, original_id, segment, mcc,
       merchant, terminal
from ledger.authorization
where account_id = $1 and shard = $2 and at_us > $3
  and business_date between $4::date - 1 and $4::date + 1
order by at_us desc limit 512

-- name: insert_authorization
insert into ledger.authorization
select $1::date, $2::smallint, nextval('ledger.entry_id'), $3::bigint, $4::bigint, $5::bigint,
       $5::bigint, $5::bigint + 800000, $6::bytea, $7::bytea, '02', 'purchase',
       'retail', 'bench', 'bench', 'R0000101', 'BENCH', '5499', '071', '000001', '1122120000',
       '000000000000', '000001', '156', $8::bigint, $8::bigint, 2::smallint, 'approved', 0::bigint,
       'bench', ''::bytea, 'approved', 1, $8::bigint
returning authorization_id

-- name: insert_transfer
insert into ledger.transfer
values ($1, $2, nextval('ledger.entry_id'), $3, $4, $5, $6, '156', 'purchase')

-- name: update_purse
update ledger.purse
set balance_minor = balance_minor - $4::bigint, month = date_trunc('month', $5::date)::date,
    month_count = 1 + case when month = date_trunc('month', $5::date)::date
                           then month_count else 0 end,
    month_minor = $4 + case when month = date_trunc('month', $5::date)::date
                            then month_minor else 0 end,
    week = date_trunc('week', $5::date)::date,
    week_count = 1 + case when week = date_trunc('week', $5::date)::date then week_count else 0 end,
    week_minor = $4 + case when week = date_trunc('week', $5::date)::date then week_minor else 0 end,
    lifetime_count = lifetime_count + 1, lifetime_minor = lifetime_minor + $4
where shard = $1 and account_id = $2 and purse = $3

-- name: update_position
insert into ledger.position as p values ($1, $2, $3, $4, 0, $5, 1)
on conflict (shard, business_date, settlement_account_id, slot) do update
set credit_minor = p.credit_minor + excluded.credit_minor,
    transfer_count = p.transfer_count + 1

-- name: update_account
update ledger.account set version = version + 1 where shard = $1 and account_id = $2

-- name: begin
begin

-- name: commit
commit
