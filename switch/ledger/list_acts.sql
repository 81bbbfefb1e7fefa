-- The audit trail of rules as the acts about lists, snoozes and reviews write it; see
-- rule_trail.py.

-- name: taken_us
select (extract(epoch from clock_timestamp() - now()) * 1000000)::bigint

-- name: revision
select revision from ledger.rules_head

-- name: rulesets_in_force
select canonical from ledger.ruleset where state in ('live', 'canary') order by state desc
