-- Keys of the HTTP API; see api_keys.py.

-- name: add_api_key
insert into ledger.api_key (key_id, acquirer, name, key_hash) values ($1, $2, $3, $4)

-- name: api_key
select key_id, acquirer, key_hash, last_used_on
from ledger.api_key
where key_id = $1 and revoked_at is null

-- name: api_keys
select key_id, acquirer, name, created_at, last_used_on, revoked_at
from ledger.api_key
order by created_at, key_id

-- name: revoke_api_key
update ledger.api_key set revoked_at = coalesce(revoked_at, clock_timestamp())
where key_id = $1
returning key_id

-- name: use_api_key
update ledger.api_key set last_used_on = $2
where key_id = $1 and last_used_on is distinct from $2
