-- What the drill of stand-in asks of its ledger; see switch/demo/drill.py.

-- name: standing
select terminal || '-' || stan || '-' || local_at as key, kind, outcome, approved_minor, rrn,
       outcome = 'approved' as approved, false as taken_back
from ledger.authorization
where kind in ('purchase', 'reversal')

-- name: suspense
select count(*) as advices, coalesce(sum(amount_minor), 0)::bigint as amount_minor
from ledger.transfer
join ledger.settlement_account on settlement_account_id = debit_account_id
where chart_code = 'SUSPENSE'
