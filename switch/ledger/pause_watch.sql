-- name: declines
-- What each rule of the rulesets that decide came to since it was promoted, over all workers,
-- with its forecast. `lifted_us` is when a person last ended a pause of it since then, if ever;
-- rules whose pause stands are left out.
select r.hash, r.state, s.rule_id, s.rule_version, (r.forecast ->> s.rule_id)::bigint as forecast,
       sum(s.requests)::bigint as requests, sum(s.declined)::bigint as declined,
       coalesce((
           select (extract(epoch from max(p.lifted_at)) * 1000000)::bigint
           from ledger.rule_pause p
           where p.rule_id = s.rule_id and p.rule_version = s.rule_version
             and p.lifted_at >= promoted.at), 0) as lifted_us
from ledger.ruleset r
cross join lateral (
    select coalesce(max(e.at), r.created_at) as at from ledger.rules_event e
    where e.subject = r.hash and e.to_state = r.state and e.from_state <> e.to_state) promoted
join ledger.rule_statistic s
    on s.hash = r.hash and s.mode = r.state and s.hour >= date_trunc('hour', promoted.at)
where r.state in ('live', 'canary') and s.rule_id <> '' and r.forecast ? s.rule_id
  and not exists (
      select 1 from ledger.rule_pause p
      where p.rule_id = s.rule_id and p.rule_version = s.rule_version and p.lifted_at is null)
group by r.hash, r.state, r.forecast, s.rule_id, s.rule_version, promoted.at
