-- name: declines
-- What each rule of the rulesets that decide came to, over all workers, with its forecast: since
-- it was promoted, within the last week, and from the hour on in which a person last ended a
-- pause of it. `lifted_us` is when that was, 0 where it was not since then; rules whose pause
-- stands are left out.
with deciding as (
    select r.hash, r.state, r.forecast,
           date_trunc('hour', greatest(clock_timestamp() - interval '7 days', (
               select coalesce(max(e.at), r.created_at) from ledger.rules_event e
               where e.subject = r.hash and e.to_state = r.state and e.from_state <> e.to_state
           )), 'UTC') as since
    from ledger.ruleset r
    where r.state in ('live', 'canary')
), lifted as (
    select p.rule_id, p.rule_version, max(p.lifted_at) as at
    from ledger.rule_pause p
    where p.lifted_at is not null
    group by p.rule_id, p.rule_version
)
select d.hash, d.state, s.rule_id, s.rule_version, (d.forecast ->> s.rule_id)::bigint as forecast,
       sum(s.requests)::bigint as requests, sum(s.declined)::bigint as declined,
       coalesce((extract(epoch from l.at) * 1000000)::bigint, 0) as lifted_us
from deciding d
join ledger.rule_statistic s on s.hash = d.hash and s.mode = d.state and s.hour >= d.since
left join lifted l
    on l.rule_id = s.rule_id and l.rule_version = s.rule_version
    and date_trunc('hour', l.at, 'UTC') >= d.since
where s.rule_id <> '' and d.forecast ? s.rule_id
  and s.hour >= coalesce(date_trunc('hour', l.at, 'UTC'), d.since)
  and not exists (
      select 1 from ledger.rule_pause p
      where p.rule_id = s.rule_id and p.rule_version = s.rule_version and p.lifted_at is null)
group by d.hash, d.state, d.forecast, s.rule_id, s.rule_version, l.at
