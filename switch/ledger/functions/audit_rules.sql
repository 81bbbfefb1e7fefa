-- The audit of what rules leave behind; see audit.sql.
--
-- Buckets of places are not recounted: what a series counts is a condition of a ruleset, which
-- only the code that evaluates rules can read. A backtest recounts them.

create or replace function ledger.audit_rule_effects(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    with effect as (
        select 'listing' as what, l.shard, l.authorization_id, null::date as business_date,
               null::bigint as card_id, l.from_us - 2000000 as at_us
        from ledger.listing l
        union all
        select 'review', r.shard, r.authorization_id, r.business_date, r.card_id, r.at_us
        from ledger.review r
        union all
        select 'tag', t.shard, t.authorization_id, t.business_date, null, null
        from ledger.tag t
    )
    select case
               when a.authorization_id is null then
                   format('%s of authorization %s in shard %s, which is not there',
                          e.what, e.authorization_id, e.shard)
               when octet_length(a.rule_results) = 0 then
                   format('%s of authorization %s, which no rule was asked about',
                          e.what, e.authorization_id)
               when coalesce(e.business_date, a.business_date) <> a.business_date
                    or coalesce(e.card_id, a.card_id) <> a.card_id
                    or coalesce(e.at_us, a.at_us) <> a.at_us then
                   format('%s of authorization %s is of another day, card or moment',
                          e.what, e.authorization_id) end
    from effect e
    left join ledger.every_authorization a
        on a.authorization_id = e.authorization_id and a.shard = e.shard
    where coalesce(e.business_date, a.business_date, p_since) >= p_since
$$;
comment on function ledger.audit_rule_effects is
    'A listing, review or tag is of an authorization that rules were asked about.';
