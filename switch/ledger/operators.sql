-- People who work with rules; see operators.py.

-- name: add_operator
-- A name that was revoked may come back, for it is the same person with another token.
with added as (
    insert into ledger.operator (name, roles, token_hash, created_by)
    values ($1, $2, $3, $4)
    on conflict (name) do update
    set roles = excluded.roles, token_hash = excluded.token_hash,
        created_at = clock_timestamp(), created_by = excluded.created_by, revoked_at = null
    where ledger.operator.revoked_at is not null
    returning name, roles
), said as (
    insert into ledger.rules_event (actor, act, subject, detail, revision)
    select $4, 'operator_add', 'operator ' || a.name, jsonb_build_object('roles', a.roles),
           h.revision
    from added a, ledger.rules_head h
)
select name from added

-- name: operator_by_token
select name, roles, token_hash from ledger.operator where token_hash = $1 and revoked_at is null

-- name: operators
select name, roles, created_at, created_by, revoked_at from ledger.operator order by name

-- name: revoke_operator
with revoked as (
    update ledger.operator set revoked_at = clock_timestamp()
    where name = $1 and revoked_at is null
    returning name
), said as (
    insert into ledger.rules_event (actor, act, subject, revision)
    select $2, 'operator_revoke', 'operator ' || r.name, h.revision
    from revoked r, ledger.rules_head h
)
select name from revoked
