-- Checks of the audit about the life of a message: answered in time, given back, held,
-- reversed before it came. See audit.sql for what a check is.

-- A message that is written however late (an advice, a reversal, an expiry) has a deadline far
-- away; see Request.must_post.
create or replace function ledger.audit_deadline(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when a.posted_at_us > a.deadline_at_us and r.authorization_id is null then
               format('authorization %s on %s was approved %s us after its deadline and is not reversed',
                      a.authorization_id, a.business_date, a.posted_at_us - a.deadline_at_us) end
    from ledger.every_authorization a
    left join ledger.every_authorization r
           on a.posted_at_us > a.deadline_at_us and r.original_id = a.authorization_id and r.shard = a.shard
          and r.kind = 'reversal' and r.outcome = 'approved'
    where a.outcome = 'approved' and a.business_date >= p_since
      and a.kind in ('purchase', 'load', 'load_pending', 'preauthorization',
                     'preauthorization_cancel', 'completion', 'void', 'refund',
                     'fare', 'tap_on', 'tap_off', 'fare_credit')
$$;
comment on function ledger.audit_deadline is
    'Nothing that asked for an answer is approved after its deadline without its reversal.';

create or replace function ledger.audit_reversal(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with follower as (
        select f.authorization_id, f.shard, f.original_id, f.kind, f.approved_minor, f.account_id,
               f.purse, f.business_date
        from ledger.every_authorization f
        where f.outcome = 'approved' and f.original_id <> 0
          and f.kind in ('reversal', 'void', 'refund', 'credit_adjustment', 'adjustment')
    ), reversed as (
        select r.original_id, r.shard, sum(r.approved_minor) as minor
        from follower r where r.kind = 'reversal' group by 1, 2
    ), given as (
        select f.original_id, f.shard,
               sum(case when f.kind = 'adjustment' then 0
                        else f.approved_minor - coalesce(r.minor, 0) end) as minor,
               sum(case when f.kind = 'adjustment' then f.approved_minor - coalesce(r.minor, 0)
                        else 0 end) as more_minor,
               min(f.account_id) as account_id, max(f.account_id) as other_account_id,
               min(f.purse) as purse, max(f.purse) as other_purse,
               max(f.business_date) as business_date,
               bool_or(f.kind <> 'reversal') as by_sale_kinds
        from follower f
        left join reversed r on r.original_id = f.authorization_id and r.shard = f.shard
        group by 1, 2
    )
    select case
               when o.authorization_id is null or o.outcome <> 'approved'
                    or o.kind in ('reversal', 'repeat', 'tombstone', 'hold_expiry') then
                   format('authorization %s is given back and is nothing approved that can be', g.original_id)
               when g.by_sale_kinds and o.kind not in ('purchase', 'completion', 'offline_sale', 'refund') then
                   format('authorization %s on %s is a %s and is voided, refunded or adjusted',
                          o.authorization_id, o.business_date, o.kind)
               when g.minor > o.approved_minor + g.more_minor then
                   format('authorization %s on %s approved %s and %s is given back',
                          o.authorization_id, o.business_date, o.approved_minor + g.more_minor, g.minor)
               when g.account_id <> o.account_id or g.other_account_id <> o.account_id
                    or g.purse <> o.purse or g.other_purse <> o.purse then
                   format('authorization %s on %s is given back to another purse', o.authorization_id, o.business_date) end
    from given g
    left join ledger.every_authorization o on o.authorization_id = g.original_id and o.shard = g.shard
    where g.business_date >= p_since
$$;
comment on function ledger.audit_reversal is
    'What reversals, voids, refunds and adjustments give back of a message is no more than it approved, to its own purse.';

create or replace function ledger.audit_hold_resolved_once(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with resolver as (
        select h.shard, h.resolved_by, count(*) as n from ledger.hold h where h.resolved_by <> 0 group by 1, 2
    )
    select case
               when (h.status = 'open') <> (h.resolved_by = 0) then
                   format('hold %s is %s and is resolved by authorization %s', h.hold_id, h.status, h.resolved_by)
               when o.authorization_id is null or o.outcome <> 'approved' or o.account_id <> h.account_id then
                   format('hold %s was opened by no approval of account %s', h.hold_id, h.account_id)
               when f.authorization_id is null or f.outcome <> 'approved' or f.account_id <> h.account_id
                    or f.kind <> case h.purpose when 'load' then 'load_pending'
                                               when 'journey' then 'tap_on' else h.purpose end then
                   format('hold %s stands for authorization %s, which is no approved %s of account %s',
                          h.hold_id, h.authorization_id,
                          case h.purpose when 'journey' then 'tap_on' else h.purpose end, h.account_id)
               when h.resolved_by <> 0
                    and (r.authorization_id is null or r.outcome <> 'approved' or r.account_id <> h.account_id) then
                   format('hold %s is %s by authorization %s, which is no approval of account %s',
                          h.hold_id, h.status, h.resolved_by, h.account_id)
               when w.n > 1 then
                   format('authorization %s resolves %s holds', h.resolved_by, w.n)
               when h.status = 'completed' and h.purpose <> 'journey' and r.approved_minor > h.amount_minor then
                   format('hold %s has %s and is completed with %s', h.hold_id, h.amount_minor, r.approved_minor) end
    from ledger.hold h
    left join ledger.every_authorization o on o.authorization_id = h.hold_id and o.shard = h.shard
    left join ledger.every_authorization f on f.authorization_id = h.authorization_id and f.shard = h.shard
    left join ledger.every_authorization r on r.authorization_id = h.resolved_by and r.shard = h.shard
                                          and h.resolved_by <> 0
    left join resolver w on w.resolved_by = h.resolved_by and w.shard = h.shard
$$;
comment on function ledger.audit_hold_resolved_once is
    'A hold is opened by an approval, resolved by at most one, and (but for a journey) completed with no more than it has.';

create or replace function ledger.audit_tombstone(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when a.authorization_id is not null then
               format('authorization %s on %s is approved, and tombstone %s on %s says that it was reversed before it came',
                      a.authorization_id, a.business_date, t.authorization_id, t.business_date) end
    from ledger.every_authorization t
    left join ledger.every_authorization a
           on a.key = t.key and a.shard = t.shard and a.outcome = 'approved'
          and a.business_date between t.business_date - 1 and t.business_date + 1
    where t.kind = 'tombstone' and t.business_date >= p_since
$$;
comment on function ledger.audit_tombstone is
    'No approval stands under the key of a message that was reversed before it came.';
