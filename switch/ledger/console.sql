-- What the console reads by itself; see switch/console/.

-- What a ruleset's rules came to by the hour, over all workers.
-- name: ruleset_statistics
select mode, rule_id, rule_version, hour,
       sum(requests)::bigint as requests, sum(fired)::bigint as fired,
       sum(declined)::bigint as declined, sum(unknown)::bigint as unknown,
       sum(spared)::bigint as spared, sum(failed)::bigint as failed,
       sum(gained)::bigint as gained, sum(lost)::bigint as lost,
       sum(gained_minor)::bigint as gained_minor, sum(lost_minor)::bigint as lost_minor
from ledger.rule_statistic
where hash = $1 and hour > clock_timestamp() - make_interval(hours => $2::int)
  and ($3 = '' or mode = $3)
group by mode, rule_id, rule_version, hour
order by mode, rule_id, rule_version, hour
limit $4

-- name: shadow_examples
select authorization_id, at_us, rule_id, answered, shadow, amount_minor, sentence
from ledger.shadow_example
where hash = $1
order by at_us desc, authorization_id desc
limit $2

-- name: backtests
select backtest_id, hash, from_date, to_date, closed_loop, actor, started_at, ended_at, state
from ledger.backtest
where $1::bigint is null or backtest_id < $1
order by backtest_id desc
limit $2

-- name: backtest
select backtest_id, hash, from_date, to_date, closed_loop, actor, started_at, ended_at, state
from ledger.backtest
where backtest_id = $1

-- name: backtest_result
select result::text as result from ledger.backtest where backtest_id = $1 and result is not null

-- name: add_backtest
insert into ledger.backtest (hash, from_date, to_date, closed_loop, actor)
values ($1, $2, $3, $4, $5)
returning backtest_id, hash, from_date, to_date, closed_loop, actor, started_at, ended_at, state

-- What ended stays as it ended.
-- name: end_backtest
update ledger.backtest
set state = $2, result = $3::jsonb, ended_at = clock_timestamp()
where backtest_id = $1 and state = 'running'

-- name: cancel_backtest
update ledger.backtest
set state = 'cancelled', ended_at = clock_timestamp()
where backtest_id = $1 and state = 'running'
returning backtest_id, hash, from_date, to_date, closed_loop, actor, started_at, ended_at, state

-- Of the whole day: one that was asked for before the day was over knows a part of it.
-- name: backtest_of_day
select result::text as result
from ledger.backtest
where hash = $1 and from_date = $2 and to_date = $2 and not closed_loop and state = 'done'
  and result is not null and started_at >= $3
order by backtest_id desc
limit 1

-- name: has_history
select exists (select 1 from ledger.every_authorization where business_date = $1) as known
