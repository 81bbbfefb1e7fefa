-- Rulesets and their life; see rulesets.py, ruleset_acts.py, rule_pauses.py and rules_trail.py.

-- name: wait_at_most
select set_config('lock_timeout', $1, true)

-- name: lock_rules
-- One act at a time: what it finds stays so until it is done.
select revision from ledger.rules_head for update

-- name: rules_changed
select ledger.rules_changed() as revision

-- name: add_event
insert into ledger.rules_event
    (actor, act, subject, from_state, to_state, reason, detail, revision)
values ($1, $2, $3, $4, $5, $6, $7::jsonb, $8)

-- name: trail
select event_id, at, actor, act, subject, from_state, to_state, reason,
       detail::text as detail, revision
from ledger.rules_event
where ($1 = '' or subject = $1) and ($2::bigint is null or event_id < $2)
order by event_id desc
limit $3

-- name: rulesets
-- Whose approval stands: given since it was last a draft.
select r.hash, r.title, r.state, r.parent, r.canary_percent, r.created_at, r.was_live,
       r.forecast::text as forecast,
       array(select a.author from ledger.ruleset_author a where a.hash = r.hash order by a.author)
           as authors,
       array(select distinct e.actor from ledger.rules_event e
             where e.subject = r.hash and e.act = 'approve'
               and e.event_id > coalesce((select max(d.event_id) from ledger.rules_event d
                                          where d.subject = r.hash and d.to_state = 'draft'), 0)
             order by e.actor) as approvers
from ledger.ruleset r
where case $1::text
          when '' then true
          when 'live' then r.state = 'live'
          when 'canary' then r.state = 'canary'
          else starts_with(r.hash, $1)
      end
order by r.created_at desc, r.hash
limit $2

-- name: ruleset_text
select hash, canonical, source, title from ledger.ruleset where hash = $1

-- name: rulesets_in_force
select hash, state, canonical from ledger.ruleset where state in ('live', 'canary')
order by state = 'live' desc

-- name: shadows
select count(*) as shadows from ledger.ruleset where state = 'shadow'

-- name: no_ruleset
select not exists (select 1 from ledger.ruleset) as empty

-- name: add_ruleset
insert into ledger.ruleset (hash, canonical, source, title, parent, state, was_live)
values ($1, $2, $3, $4, $5, $6, $6 = 'live')

-- name: add_authors
insert into ledger.ruleset_author (hash, author)
select $1, author from unnest($2::text[]) as author
on conflict do nothing

-- name: approved_by
select 1 from ledger.ruleset_approval where hash = $1 and approver = $2

-- name: outside_lists
select name, field from ledger.rule_list

-- name: moves
select act, from_state, to_state, roles from ledger.ruleset_move order by act, from_state

-- name: acting_operator
select roles from ledger.operator where name = $1 and revoked_at is null for share

-- name: add_approval
insert into ledger.ruleset_approval (hash, approver, reason) values ($1, $2, $3)

-- name: move_ruleset
update ledger.ruleset
set state = $2, canary_percent = $3, forecast = coalesce($4::jsonb, forecast),
    was_live = was_live or $2 = 'live'
where hash = $1

-- name: live_before
-- The newest that a promotion retired. One that was rolled back from did harm, and does not
-- come back by itself.
select r.hash
from ledger.ruleset r
cross join lateral (
    select e.event_id, e.act, e.detail from ledger.rules_event e
    where e.subject = r.hash and e.from_state = 'live' order by e.event_id desc limit 1
) ended
where r.state = 'retired' and r.was_live and r.hash <> $1
  and ended.act = 'retire' and ended.detail ->> 'by' = 'promote'
order by ended.event_id desc
limit 1

-- name: shadow_forecast
select rule_id, (sum(declined) * 1000000 / sum(requests))::bigint as share_ppm
from ledger.rule_statistic
where hash = $1 and mode = 'shadow' and rule_id <> ''
group by rule_id
having sum(requests) >= $2

-- name: backtest_forecast
select rule ->> 'rule_id' as rule_id,
       (rule ->> 'declined')::bigint * 1000000 / (rule ->> 'evaluated')::bigint as share_ppm
from (
    select b.result from ledger.backtest b
    where b.hash = $1 and b.state = 'done' and b.result is not null
    order by b.backtest_id desc limit 1
) latest, jsonb_array_elements(latest.result -> 'rules') as rule
where (rule ->> 'evaluated')::bigint > 0

-- name: pause_rule
insert into ledger.rule_pause (rule_id, rule_version, paused_by, reason, automatic)
select $1, version, $3, $4, $5 from unnest($2::int[]) as version
on conflict (rule_id, rule_version) where lifted_at is null do nothing
returning pause_id, rule_id, rule_version, paused_at, paused_by, reason, automatic

-- name: lift_pause
update ledger.rule_pause
set lifted_at = clock_timestamp(), lifted_by = $2, lifted_reason = $3
where rule_id = $1 and lifted_at is null
returning rule_version

-- name: pauses
select pause_id, rule_id, rule_version, paused_at, paused_by, reason, automatic
from ledger.rule_pause
where lifted_at is null
order by pause_id

-- name: day_has_history
select exists (select 1 from ledger.every_authorization a where a.business_date = $1)
