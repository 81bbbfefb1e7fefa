-- The PIN of a card; see card_pin.py.

-- name: set_pin
with touched as (
    -- the account first, as every posting does, so that decisions in flight are made again
    update ledger.account a set version = a.version + 1
    from ledger.medium k
    where k.card_id = $1 and a.shard = k.shard and a.account_id = k.account_id
    returning a.shard
)
update ledger.card c set pin_reference = coalesce($2::bytea, c.pin_reference), pin_tries = 0
from touched t
where c.shard = t.shard and c.card_id = $1
returning c.pin_reference <> '' as has_pin
