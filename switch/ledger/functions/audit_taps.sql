-- Checks of the audit about rides and chips: fares, fare days, journeys, records, gaps, proofs.
-- See audit.sql for what a check is.

-- fare_credit is what a tap is posted as that makes its day cheaper. A tap without a row is one
-- that stands in SUSPENSE.
create or replace function ledger.audit_tap_fare(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with moved as (
        select t.authorization_id, t.shard, t.business_date,
               sum(case when t.credit_account_id >= 16000000 then -t.amount_minor
                        else t.amount_minor end) as minor
        from ledger.every_transfer t
        where t.business_date >= p_since
          and t.kind in ('fare', 'tap_on', 'tap_off', 'incomplete_fare', 'fare_credit')
        group by 1, 2, 3
    ), priced as (
        select p.*, p.nominal_minor + p.concession_minor + p.transfer_minor + p.cap_minor
                    + p.recomputed_minor as minor
        from ledger.every_tap p where p.business_date >= p_since
    ), approved as (
        select a.authorization_id, a.shard, a.business_date, a.account_id, a.kind, a.purse
        from ledger.every_authorization a
        where a.business_date >= p_since and a.outcome = 'approved' and a.account_id <> 0
          and a.kind in ('fare', 'tap_on', 'tap_off', 'incomplete_fare', 'fare_credit')
    )
    select case
               when a.authorization_id is null then
                   format('tap %s on %s belongs to no approved tap', p.authorization_id, p.business_date)
               when p.authorization_id is null and (a.purse <> 0 or m.minor is null) then
                   format('authorization %s on %s is an approved %s and has no tap',
                          a.authorization_id, a.business_date, a.kind)
               when p.account_id <> a.account_id or a.kind not in (p.kind, 'fare_credit') then
                   format('tap %s on %s is a %s of account %s, and its authorization a %s of account %s',
                          p.authorization_id, p.business_date, p.kind, p.account_id, a.kind, a.account_id)
               when p.charged_minor <> p.minor or p.charged_minor <> coalesce(m.minor, 0) then
                   format('tap %s on %s is charged %s, its nominal fare and adjustments are %s, its transfers %s',
                          p.authorization_id, p.business_date, p.charged_minor, p.minor, coalesce(m.minor, 0)) end
    from priced p
    full join approved a on a.authorization_id = p.authorization_id and a.shard = p.shard
                        and a.business_date = p.business_date
    left join moved m on m.authorization_id = a.authorization_id and m.shard = a.shard
                     and m.business_date = a.business_date
$$;
comment on function ledger.audit_tap_fare is
    'What a tap is charged is its nominal fare plus its adjustments, and what its transfers move.';

-- A day of which a tap was reversed is left out: what was recomputed because of that tap is
-- put right by the next one. What a journey was charged on an earlier day, for want of the end
-- that came on this one, counts towards this one.
create or replace function ledger.audit_fare_day(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with reversed as (
        select distinct r.original_id, r.shard from ledger.every_authorization r
        where r.kind = 'reversal' and r.outcome = 'approved'
    ), over_before as (
        select i.journey_id, i.shard, i.fare_date, i.charged_minor - i.recomputed_minor as minor
        from ledger.every_tap i where i.kind = 'incomplete_fare'
    ), day as (
        select t.account_id, t.shard, t.fare_date,
               sum(t.charged_minor + coalesce(o.minor, 0)) as minor,
               max(t.business_date) as business_date, bool_or(r.original_id is not null) as reversed
        from ledger.every_tap t
        left join reversed r on r.original_id = t.authorization_id and r.shard = t.shard
        left join over_before o on o.journey_id = t.journey_id and o.shard = t.shard
                               and o.fare_date <> t.fare_date and t.kind = 'tap_off'
        group by 1, 2, 3
    )
    select case when d.minor < 0 and not d.reversed then
               format('account %s is charged %s for its fare day %s', d.account_id, d.minor, d.fare_date) end
    from day d
    where d.business_date >= p_since
$$;
comment on function ledger.audit_fare_day is
    'Nobody is paid for riding: what the taps of a fare day are charged sums to zero or more.';

create or replace function ledger.audit_journey(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when b.authorization_id is null or b.kind <> 'tap_on' or b.account_id <> j.account_id then
               format('%s %s says that authorization %s began its journey, which is no tap-on of account %s',
                      j.what, j.id, j.journey_id, j.account_id) end
    from (select 'hold' as what, h.hold_id as id, h.authorization_id as journey_id, h.shard, h.account_id
          from ledger.hold h where h.purpose = 'journey'
          union all
          select 'tap', t.authorization_id, t.journey_id, t.shard, t.account_id
          from ledger.every_tap t where t.journey_id <> 0 and t.business_date >= p_since) j
    left join ledger.every_tap b on b.authorization_id = j.journey_id and b.shard = j.shard
$$;
comment on function ledger.audit_journey is
    'A journey that is open, ended or incomplete was begun by a tap-on of its account.';

create or replace function ledger.audit_chip_record(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with record as (
        select r.authorization_id, r.shard, r.business_date, r.card_id, r.counter, r.amount_minor,
               r.suspense
        from ledger.chip_record r where r.business_date >= p_since
        union all
        select o.authorization_id, o.shard, o.business_date, o.card_id, o.counter, o.amount_minor, true
        from ledger.chip_other_record o where o.business_date >= p_since
    ), fare as (
        select a.authorization_id, a.shard, a.card_id, a.amount_minor, a.approved_minor, a.purse,
               a.business_date
        from ledger.every_authorization a
        where a.business_date >= p_since and a.kind = 'offline_fare' and a.outcome = 'approved'
          and a.account_id <> 0
    )
    select case
               when f.authorization_id is null then
                   format('record %s of card %s belongs to no approved offline fare', r.counter, r.card_id)
               when r.authorization_id is null then
                   format('offline fare %s on %s is no record of card %s',
                          f.authorization_id, f.business_date, f.card_id)
               when r.card_id <> f.card_id or r.suspense <> (f.purse = 0)
                    or r.amount_minor <> f.amount_minor or f.approved_minor <> f.amount_minor then
                   format('record %s of card %s (%s%s) is posted as offline fare %s of %s from purse %s of card %s',
                          r.counter, r.card_id, r.amount_minor, case when r.suspense then ', in suspense' end,
                          f.authorization_id, f.approved_minor, f.purse, f.card_id) end
    from record r
    full join fare f on f.authorization_id = r.authorization_id and f.shard = r.shard
                    and f.business_date = r.business_date
$$;
comment on function ledger.audit_chip_record is
    'An offline fare is a record of its card with its amount, the first under its counter, or in suspense beside the first.';

create or replace function ledger.audit_chip_purse(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with record as (
        select c.account_id, c.shard, sum(r.amount_minor) as minor
        from ledger.chip_record r
        join ledger.card c on c.card_id = r.card_id and c.shard = r.shard
        where not r.suspense
        group by 1, 2
    ), loaded as (
        select t.credit_account_id / 16 as account_id, t.shard, sum(t.amount_minor) as minor
        from (select e.shard, e.credit_account_id, e.amount_minor from ledger.every_transfer e
              where e.credit_account_id >= 16000000
              union all
              select e.shard, e.debit_account_id, -e.amount_minor from ledger.every_transfer e
              where e.debit_account_id >= 16000000 and e.kind <> 'offline_fare') t
        where t.credit_account_id % 16 = 3
        group by 1, 2
    )
    select case when u.balance_minor <> coalesce(l.minor, 0) - coalesce(r.minor, 0) then
               format('the chip purse of account %s has %s, its loads are %s and its records %s',
                      u.account_id, u.balance_minor, coalesce(l.minor, 0), coalesce(r.minor, 0)) end
    from ledger.purse u
    left join record r on r.account_id = u.account_id and r.shard = u.shard
    left join loaded l on l.account_id = u.account_id and l.shard = u.shard
    where u.purse = 3
$$;
comment on function ledger.audit_chip_purse is
    'The purse of a chip has what was loaded less what its records spent.';

create or replace function ledger.audit_chip_gap(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with came as (
        select r.card_id, r.shard, max(r.counter) as highest,
               range_agg(int4range(r.counter, r.counter, '[]')) as counters
        from ledger.chip_record r group by 1, 2
    )
    select case
               when c.card_id is null then
                   format('records of card %s came and nothing is known of its chip', r.card_id)
               when c.highest <> coalesce(r.highest, -1)
                    or c.missing <> int4multirange(int4range(0, c.highest + 1))
                                    - coalesce(r.counters, '{}') then
                   format('the chip of card %s is at %s without %s, its records give %s without %s',
                          c.card_id, c.highest, c.missing, coalesce(r.highest, -1),
                          int4multirange(int4range(0, coalesce(r.highest, -1) + 1))
                          - coalesce(r.counters, '{}')) end
    from ledger.chip c
    full join came r on r.card_id = c.card_id and r.shard = c.shard
$$;
comment on function ledger.audit_chip_gap is
    'The gaps of a chip are the counters up to its highest of which no record came.';

-- A gap that is still open says nothing yet.
create or replace function ledger.audit_chip_proof(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with later as (
        select r.card_id, r.shard, sum(r.amount_minor) as minor
        from ledger.chip c
        join ledger.chip_record r on r.card_id = c.card_id and r.shard = c.shard
                                 and r.proven_by = c.proven_by and r.counter <= c.proven_counter
        where c.proven_by <> 0
        group by 1, 2
    )
    select case when c.highest >= c.proven_counter
                     and not c.missing && int4range(0, c.proven_counter + 1)
                     and coalesce(l.minor, 0) <> c.proven_missing_minor then
               format('the chip of card %s had spent %s up to counter %s that had not come, and %s came',
                      c.card_id, c.proven_missing_minor, c.proven_counter, coalesce(l.minor, 0)) end
    from ledger.chip c
    left join later l on l.card_id = c.card_id and l.shard = c.shard
    where c.proven_by <> 0
$$;
comment on function ledger.audit_chip_proof is
    'What came of a chip after its last load is what it said then that it had spent.';
