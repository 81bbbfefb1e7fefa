-- The audit: one function per invariant, recomputed from rows (domain 11.1).
--
-- A check named x is the function ledger.audit_x(p_since, p_caps): a row per thing examined,
-- null where it is sound and else a sentence with ids (never a card number, an instant or
-- any other run of 13 digits). Its comment is the invariant. ledger.audit finds the checks
-- by their name, so a new function is a new check; what becomes of a message after it was
-- posted is checked in audit_life.sql, taps and chips in audit_taps.sql.
--
-- p_since: checks of single rows look at business days from then on; sums need every day.
-- p_caps: most that the GEN purse may keep, minor units by tier, or null.

create or replace function ledger.audit_purse_balance(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with moved as (
        select m.shard, m.book, sum(m.delta) as delta
        from (select t.shard, t.credit_account_id as book, t.amount_minor as delta
              from ledger.every_transfer t where t.credit_account_id >= 16000000
              union all
              select t.shard, t.debit_account_id, -t.amount_minor
              from ledger.every_transfer t where t.debit_account_id >= 16000000) m
        group by m.shard, m.book
    )
    select case when u.account_id is null then
                    format('transfers of shard %s move %s in a purse that does not exist: account %s purse %s',
                           m.shard, m.delta, m.book / 16, m.book % 16)
                when u.balance_minor <> coalesce(m.delta, 0) then
                    format('account %s purse %s holds %s, its transfers give %s',
                           u.account_id, u.purse, u.balance_minor, coalesce(m.delta, 0)) end
    from ledger.purse u
    full join moved m on m.shard = u.shard and m.book = u.account_id * 16 + u.purse
$$;
comment on function ledger.audit_purse_balance is
    'The balance of a purse is the sum of its transfers.';

create or replace function ledger.audit_purse_floor(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when u.balance_minor - u.held_minor < u.floor_minor then
               format('account %s purse %s has %s available, its floor is %s',
                      u.account_id, u.purse, u.balance_minor - u.held_minor, u.floor_minor) end
    from ledger.purse u
$$;
comment on function ledger.audit_purse_floor is
    'What is available in a purse (balance less open holds) is not below its floor.';

create or replace function ledger.audit_purse_held(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with held as (
        select h.shard, h.account_id, h.purse, sum(h.amount_minor) as minor
        from ledger.hold h
        where h.status = 'open' and h.purpose <> 'load' group by 1, 2, 3
    )
    select case when coalesce(u.held_minor, 0) <> coalesce(h.minor, 0) then
               format('account %s purse %s has %s held, its open holds are %s',
                      coalesce(u.account_id, h.account_id), coalesce(u.purse, h.purse),
                      coalesce(u.held_minor, 0), coalesce(h.minor, 0)) end
    from ledger.purse u
    full join held h on h.shard = u.shard and h.account_id = u.account_id and h.purse = u.purse
$$;
comment on function ledger.audit_purse_held is
    'What is held of a purse is the sum of the open holds of its preauthorizations and journeys.';

create or replace function ledger.audit_month_totals(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with spent as (
        select a.shard, a.account_id, a.purse,
               date_trunc('month', coalesce(a.spent_on, a.business_date))::date as month,
               sum(a.spent_count) as spent_count, sum(a.spent_minor) as spent_minor
        from ledger.every_authorization a
        where a.spent_count <> 0 or a.spent_minor <> 0
        group by 1, 2, 3, 4
    ), latest as (
        select s.shard, s.account_id, s.purse, max(s.month) as month from spent s group by 1, 2, 3
    )
    select case
               when l.month > u.month then
                   format('account %s purse %s has totals of %s and spending of %s',
                          u.account_id, u.purse, u.month, l.month)
               when u.month_count <> coalesce(s.spent_count, 0)
                    or u.month_minor <> coalesce(s.spent_minor, 0) then
                   format('account %s purse %s says %s payments, %s spent in %s, its rows give %s and %s',
                          u.account_id, u.purse, u.month_count, u.month_minor, u.month,
                          coalesce(s.spent_count, 0), coalesce(s.spent_minor, 0)) end
    from ledger.purse u
    left join latest l on l.shard = u.shard and l.account_id = u.account_id and l.purse = u.purse
    left join spent s on s.shard = u.shard and s.account_id = u.account_id and s.purse = u.purse
                     and s.month = u.month
$$;
comment on function ledger.audit_month_totals is
    'The month totals of a purse are what its messages spent in that month, less what was given back of it.';

create or replace function ledger.audit_week_totals(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with spent as (
        select a.shard, a.account_id, a.purse,
               date_trunc('week', coalesce(a.spent_on, a.business_date))::date as week,
               sum(a.spent_count) as spent_count, sum(a.spent_minor) as spent_minor
        from ledger.every_authorization a
        where a.spent_count <> 0 or a.spent_minor <> 0
        group by 1, 2, 3, 4
    ), latest as (
        select s.shard, s.account_id, s.purse, max(s.week) as week from spent s group by 1, 2, 3
    )
    select case
               when l.week > u.week then
                   format('account %s purse %s has totals of the week of %s and spending of that of %s',
                          u.account_id, u.purse, u.week, l.week)
               when u.week_count <> coalesce(s.spent_count, 0)
                    or u.week_minor <> coalesce(s.spent_minor, 0) then
                   format('account %s purse %s says %s payments, %s spent in the week of %s, its rows give %s and %s',
                          u.account_id, u.purse, u.week_count, u.week_minor, u.week,
                          coalesce(s.spent_count, 0), coalesce(s.spent_minor, 0)) end
    from ledger.purse u
    left join latest l on l.shard = u.shard and l.account_id = u.account_id and l.purse = u.purse
    left join spent s on s.shard = u.shard and s.account_id = u.account_id and s.purse = u.purse
                     and s.week = u.week
$$;
comment on function ledger.audit_week_totals is
    'The week totals of a purse are what its messages spent in that week, less what was given back of it.';

create or replace function ledger.audit_lifetime_totals(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with spent as (
        select a.shard, a.account_id, a.purse, sum(a.spent_count) as spent_count,
               sum(a.spent_minor) as spent_minor
        from ledger.every_authorization a
        where a.spent_count <> 0 or a.spent_minor <> 0
        group by 1, 2, 3
    )
    select case when u.lifetime_count <> coalesce(s.spent_count, 0)
                     or u.lifetime_minor <> coalesce(s.spent_minor, 0) then
               format('account %s purse %s says %s payments, %s spent in all, its rows give %s and %s',
                      u.account_id, u.purse, u.lifetime_count, u.lifetime_minor,
                      coalesce(s.spent_count, 0), coalesce(s.spent_minor, 0)) end
    from ledger.purse u
    left join spent s on s.shard = u.shard and s.account_id = u.account_id and s.purse = u.purse
$$;
comment on function ledger.audit_lifetime_totals is
    'The lifetime totals of a purse are what all of its messages spent, less what was given back.';

-- What a message may say it spent follows from its kind: payments count, and what takes one
-- back counts below zero and takes no count with it.
create or replace function ledger.audit_spent(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when not case
               when a.outcome <> 'approved' or a.account_id = 0 or a.purse = 0 then
                   a.spent_count = 0 and a.spent_minor = 0
               when a.kind in ('purchase', 'completion', 'offline_sale', 'bill') then
                   a.spent_count = 1 and a.spent_minor = a.approved_minor
               -- A ride counts once, at its end; what makes its day cheaper spends less.
               when a.kind in ('fare', 'tap_off', 'incomplete_fare', 'offline_fare') then
                   a.spent_count = 1 and a.spent_minor = a.approved_minor
               when a.kind = 'tap_on' then
                   a.spent_count in (0, 1) and a.spent_minor = a.approved_minor
               when a.kind = 'fare_credit' then
                   a.spent_count = 1 and a.spent_minor between -a.approved_minor and 0
               when a.kind = 'adjustment' then
                   a.spent_count = 0 and a.spent_minor between 0 and a.approved_minor
               when a.kind in ('refund', 'void', 'credit_adjustment') then
                   a.spent_count = 0 and a.spent_minor between -a.approved_minor and 0
               when a.kind = 'reversal' then
                   a.spent_count = 0 and abs(a.spent_minor) <= a.approved_minor
               else a.spent_count = 0 and a.spent_minor = 0 end
           then format('authorization %s on %s (%s, %s) approved %s and counts as %s payments, %s spent',
                       a.authorization_id, a.business_date, a.kind, a.outcome, a.approved_minor,
                       a.spent_count, a.spent_minor) end
    from ledger.every_authorization a
    where a.business_date >= p_since
$$;
comment on function ledger.audit_spent is
    'A payment counts once and with what it approved, and what takes it back with no more than that.';

create or replace function ledger.audit_position(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with moved as (
        select m.shard, m.business_date, m.account, sum(m.debit) as debit, sum(m.credit) as credit, count(*) as n
        from (select t.shard, t.business_date, t.debit_account_id as account, t.amount_minor as debit, 0 as credit
              from ledger.every_transfer t where t.debit_account_id < 16000000
              union all
              select t.shard, t.business_date, t.credit_account_id, 0, t.amount_minor
              from ledger.every_transfer t where t.credit_account_id < 16000000) m
        group by 1, 2, 3
    ), stood as (
        select p.shard, p.business_date, p.settlement_account_id as account,
               sum(p.debit_minor) as debit, sum(p.credit_minor) as credit, sum(p.transfer_count) as n
        from ledger.position p group by 1, 2, 3
    )
    select case when (s.debit, s.credit, s.n) is distinct from (m.debit, m.credit, m.n::numeric) then
               format('settlement account %s on %s in shard %s stands at debit %s credit %s count %s, its transfers give %s, %s and %s',
                      coalesce(s.account, m.account), coalesce(s.business_date, m.business_date),
                      coalesce(s.shard, m.shard), coalesce(s.debit, 0), coalesce(s.credit, 0), coalesce(s.n, 0),
                      coalesce(m.debit, 0), coalesce(m.credit, 0), coalesce(m.n, 0)) end
    from stood s
    full join moved m on m.shard = s.shard and m.business_date = s.business_date and m.account = s.account
$$;
comment on function ledger.audit_position is
    'The position of a settlement account on a day is the sum of its transfers of that day.';

create or replace function ledger.audit_approval_moved(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with moved as (
        select t.authorization_id, t.shard, t.business_date, sum(t.amount_minor) as minor
        from ledger.every_transfer t where t.business_date >= p_since
        group by 1, 2, 3
    )
    select case when coalesce(m.minor, o.amount_minor, r.amount_minor, 0)
                     <> case when a.outcome = 'approved' then a.approved_minor else 0 end
                then format('authorization %s on %s (%s, %s) approved %s and moved or held %s',
                            a.authorization_id, a.business_date, a.kind, a.outcome, a.approved_minor,
                            coalesce(m.minor, o.amount_minor, r.amount_minor, 0)) end
    from ledger.every_authorization a
    left join moved m on m.authorization_id = a.authorization_id and m.shard = a.shard
                     and m.business_date = a.business_date
    -- A journey's hold is nobody's approval: a tap approves what it is charged.
    left join ledger.hold o on o.hold_id = a.authorization_id and o.shard = a.shard
                           and o.purpose <> 'journey'
    left join (select h.shard, h.resolved_by, sum(h.amount_minor) as amount_minor
               from ledger.hold h
               where h.resolved_by <> 0 and h.purpose <> 'journey' group by 1, 2) r
           on r.resolved_by = a.authorization_id and r.shard = a.shard
    where a.business_date >= p_since
$$;
comment on function ledger.audit_approval_moved is
    'An approval moves exactly what it approved, or holds or frees that much; a decline does nothing.';

-- Between two of the operator's own accounts money moves only where no purse has it yet, or
-- none of ours ever has: a pending load, a sale in suspense, a card of another issuer.
create or replace function ledger.audit_transfer_explained(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case
               when a.authorization_id is null then
                   format('transfer %s on %s has no authorization in its shard and day', t.transfer_id, t.business_date)
               when t.currency <> a.currency or t.kind <> a.kind then
                   format('transfer %s on %s has another currency or kind than authorization %s',
                          t.transfer_id, t.business_date, a.authorization_id)
               when greatest(t.debit_account_id, t.credit_account_id) >= 16000000
                    and greatest(t.debit_account_id, t.credit_account_id) <> a.account_id * 16 + a.purse then
                   format('transfer %s on %s moves another purse than that of authorization %s',
                          t.transfer_id, t.business_date, a.authorization_id)
               when d.settlement_account_id is null and t.debit_account_id < 16000000
                    or c.settlement_account_id is null and t.credit_account_id < 16000000 then
                   format('transfer %s on %s names settlement account %s, which does not exist', t.transfer_id,
                          t.business_date,
                          case when d.settlement_account_id is null and t.debit_account_id < 16000000
                               then t.debit_account_id else t.credit_account_id end)
               when greatest(t.debit_account_id, t.credit_account_id) < 16000000
                    and not case
                        when a.account_id = 0 then
                            (d.chart_code, c.chart_code) in (('INTERCITY', 'ACQ'), ('ACQ', 'INTERCITY'))
                        when a.kind = 'load_pending' then
                            (d.chart_code, c.chart_code) = ('AGENT', 'PENDING')
                        when a.kind in ('hold_expiry', 'reversal') and d.chart_code = 'PENDING' then
                            c.chart_code = 'AGENT'
                        when a.purse = 0 then
                            (d.chart_code, c.chart_code) in (('SUSPENSE', 'ACQ'), ('ACQ', 'SUSPENSE'))
                        else false end then
                   format('transfer %s on %s moves from %s to %s, which a %s does not',
                          t.transfer_id, t.business_date, d.chart_code, c.chart_code, a.kind) end
    from ledger.every_transfer t
    left join ledger.every_authorization a
           on a.authorization_id = t.authorization_id and a.shard = t.shard and a.business_date = t.business_date
    left join ledger.settlement_account d on d.settlement_account_id = t.debit_account_id
    left join ledger.settlement_account c on c.settlement_account_id = t.credit_account_id
    where t.business_date >= p_since
$$;
comment on function ledger.audit_transfer_explained is
    'A transfer belongs to an authorization of its shard and day, in its currency, between its purse and an account of the operator, or between two of the operator''s that its kind may touch.';

create or replace function ledger.audit_one_effect_per_key(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when k.previous_date >= k.business_date - 1 then
               format('authorizations %s and %s on %s are approved under one idempotency key',
                      k.previous_id, k.authorization_id, k.business_date) end
    from (
        select a.authorization_id, a.business_date,
               lag(a.authorization_id) over earlier as previous_id,
               lag(a.business_date) over earlier as previous_date
        from ledger.every_authorization a
        where a.outcome = 'approved' and a.business_date >= p_since - 1
        window earlier as (partition by a.key order by a.business_date, a.authorization_id)
    ) k
    where k.business_date >= p_since
$$;
comment on function ledger.audit_one_effect_per_key is
    'One idempotency key has one approval, on the same and the next business day.';

-- The balance after each load, not the balance now: a reversed purchase may lift a purse
-- above its cap, and then further loads are refused (domain 11.6). A load that an agent has
-- taken counts from then on, so its confirmation is not asked again.
create or replace function ledger.audit_balance_cap(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with change as (
        select t.authorization_id, t.shard,
               sum(case when t.credit_account_id >= 16000000 then t.amount_minor else -t.amount_minor end)
                   as balance_minor, 0::numeric as pending_minor
        from ledger.every_transfer t
        where greatest(t.debit_account_id, t.credit_account_id) >= 16000000
        group by 1, 2
        union all
        select h.hold_id, h.shard, 0, h.amount_minor from ledger.hold h
        where h.purpose = 'load' and h.purse = 2
        union all
        select h.resolved_by, h.shard, 0, -h.amount_minor from ledger.hold h
        where h.purpose = 'load' and h.purse = 2 and h.resolved_by <> 0
    ), effect as (
        select c.authorization_id, c.shard, sum(c.balance_minor) as balance_minor,
               sum(c.pending_minor) as pending_minor
        from change c group by 1, 2
    ), running as (
        select a.authorization_id, a.business_date, a.shard, a.account_id, a.kind, a.original_id,
               sum(e.balance_minor) over earlier as balance,
               sum(e.pending_minor) over earlier as pending
        from effect e
        join ledger.every_authorization a on a.authorization_id = e.authorization_id and a.shard = e.shard
        where a.purse = 2
        window earlier as (partition by a.shard, a.account_id order by a.posted_at_us, a.authorization_id)
    )
    select case when r.balance + case r.kind when 'load_pending' then r.pending else 0 end
                     > (p_caps ->> c.tier)::bigint then
               format('%s %s on %s took account %s to %s, the cap of its tier is %s', r.kind,
                      r.authorization_id, r.business_date, r.account_id,
                      r.balance + case r.kind when 'load_pending' then r.pending else 0 end,
                      p_caps ->> c.tier) end
    from running r
    join ledger.account c on c.shard = r.shard and c.account_id = r.account_id
    where (r.kind = 'load' and r.original_id = 0 or r.kind = 'load_pending') and r.business_date >= p_since
$$;
comment on function ledger.audit_balance_cap is
    'No load takes a GEN purse, with what waits for its confirmation, above the cap of its tier.';

create or replace function ledger.audit_ruleset(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when a.ruleset = '' then
               format('authorization %s on %s names no ruleset', a.authorization_id, a.business_date) end
    from ledger.every_authorization a
    where a.outcome = 'approved' and a.business_date >= p_since
$$;
comment on function ledger.audit_ruleset is 'Every approval names the ruleset it was decided by.';

create or replace function ledger.audit_shard(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case
               when r.shard <> r.account_id % s.shards then
                   format('%s %s of account %s is in shard %s', r.what, r.id, r.account_id, r.shard)
               when c.account_id is null then
                   format('%s %s of shard %s names account %s, which does not exist there', r.what, r.id, r.shard, r.account_id)
           end
    from (select 'account' as what, a.account_id as id, a.shard, a.account_id from ledger.account a
          union all
          select 'card', k.card_id, k.shard, k.account_id from ledger.card k
          union all
          select 'purse', u.purse, u.shard, u.account_id from ledger.purse u
          union all
          select 'hold', h.hold_id, h.shard, h.account_id from ledger.hold h
          union all
          select 'authorization', n.authorization_id, n.shard, n.account_id
          from ledger.every_authorization n where n.account_id <> 0 and n.business_date >= p_since
          union all
          select 'tap', t.authorization_id, t.shard, t.account_id
          from ledger.every_tap t where t.business_date >= p_since
          union all
          select 'entitlement', e.entitlement_id, e.shard, e.account_id from ledger.entitlement e) r
    left join ledger.account c on c.shard = r.shard and c.account_id = r.account_id
    cross join (select g.value::bigint as shards from ledger.setting g where g.name = 'shards') s
$$;
comment on function ledger.audit_shard is
    'Every row of an account is in the shard of that account.';

create or replace function ledger.audit_directory(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case
               when k.card_id is null then
                   format('card %s of account %s is in no directory entry', c.card_id, c.account_id)
               when c.card_id is null then
                   format('a directory entry leads to card %s of shard %s, which does not exist', k.card_id, k.shard)
               when c.account_id <> k.account_id then
                   format('the directory leads card %s to account %s, and it belongs to %s',
                          k.card_id, k.account_id, c.account_id)
               when a.account_id is null then
                   format('card %s belongs to account %s, which does not exist in shard %s',
                          c.card_id, c.account_id, c.shard) end
    from ledger.medium k
    full join ledger.card c on c.card_id = k.card_id and c.shard = k.shard
    left join ledger.account a on a.shard = c.shard and a.account_id = c.account_id
$$;
comment on function ledger.audit_directory is
    'Every medium leads to a card and its account, and every card can be found.';

create or replace function ledger.audit_trial_balance(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when p.minor + s.minor <> 0 then
               format('purses hold %s and the operator''s accounts %s on balance', p.minor, s.minor) end
    from (select coalesce(sum(u.balance_minor), 0) as minor from ledger.purse u) p,
         (select coalesce(sum(n.credit_minor - n.debit_minor), 0) as minor from ledger.position n) s
$$;
comment on function ledger.audit_trial_balance is
    'All purses and all accounts of the operator sum to zero.';

create or replace function ledger.audit_trust_account(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when b.trust <> u.minor + b.payable + b.own + b.control - b.receivable then
               format('the trust account holds %s, purses %s and payables %s less receivables %s, income %s, control %s',
                      b.trust, u.minor, b.payable, b.receivable, b.own, b.control) end
    from (select coalesce(sum(v.balance_minor), 0) as minor from ledger.purse v) u,
         (select coalesce(sum(n.debit_minor - n.credit_minor) filter (where c.code = 'BANK'), 0) as trust,
                 coalesce(sum(n.credit_minor - n.debit_minor) filter (where c.class = 'liability'), 0) as payable,
                 coalesce(sum(n.credit_minor - n.debit_minor) filter (where c.class = 'income'), 0) as own,
                 coalesce(sum(n.credit_minor - n.debit_minor) filter (where c.class = 'control'), 0) as control,
                 coalesce(sum(n.debit_minor - n.credit_minor)
                          filter (where c.class = 'asset' and c.code <> 'BANK'), 0) as receivable
          from ledger.position n
          join ledger.settlement_account s on s.settlement_account_id = n.settlement_account_id
          join ledger.chart c on c.code = s.chart_code) b
$$;
comment on function ledger.audit_trust_account is
    'The trust account holds what is owed to holders and payees, and what was earned or is in suspense, less what is receivable.';

create or replace function ledger.audit_days_kept(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when not c.relispartition then
               format('table %s is neither attached nor in the archive; detach again to finish', c.relname) end
    from pg_class c
    where c.relnamespace in ('ledger'::regnamespace, 'ledger_archive'::regnamespace) and c.relkind = 'r'
      and c.relname ~ '^(authorization|transfer|tap)_[0-9]{8}$'
$$;
comment on function ledger.audit_days_kept is
    'Every business day is attached to the daily tables or to their archive.';

-- Runs every check: its name, its sentence, how much it looked at, how many findings and
-- the first of them.
--
-- Each check reads whole tables, so nothing is gained by a nested loop and a day is lost by
-- one: a partition of today has no statistics yet, the planner takes it for nearly empty,
-- and 200,000 authorizations looked up one by one in themselves took hours, not 0.1 s.
create or replace function ledger.audit(p_days integer, p_caps jsonb)
returns table (name text, invariant text, examined bigint, findings bigint, first text[])
language plpgsql stable set work_mem = '64MB' set enable_nestloop = off set jit = off as $$
declare
    since date := '-infinity';
begin
    if p_days is not null then
        select coalesce(max(p.business_date), '-infinity') - (p_days - 1) into since from ledger.position p;
    end if;
    for name, invariant in
        select substr(p.proname, 7), obj_description(p.oid, 'pg_proc') from pg_proc p
        where p.pronamespace = 'ledger'::regnamespace and p.proname like 'audit\_%' order by p.oid
    loop
        continue when name = 'balance_cap' and p_caps is null;
        execute format('select count(*), count(f), '
                       'coalesce((array_agg(f order by f) filter (where f is not null))[1:10], ''{}'') '
                       'from ledger.%I($1, $2) as f', 'audit_' || name)
        into examined, findings, first using since, p_caps;
        return next;
    end loop;
end $$;
