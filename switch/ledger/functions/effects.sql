-- What postings leave behind for rules beside the money: listings, reviews and tags, and what is
-- counted of terminals, merchants and acquirers. Called by post_batch in its transaction, for the
-- rows that it posted; see switch/ledger/effect_columns.py for what is sent.

-- p_effects: [{"n": row, "listings": [{list, field, value, rule_id, until_us}], "reviews":
-- [{queue, rule_id}], "tags": [{tag, rule_id}]}]. Where two rules ask for the same, it is the
-- first's. A listing is in force TAKES_EFFECT_US (risk/lists.py: 2 s) after the decision, when
-- every worker knows of it.
create or replace function ledger.post_effects(
    p_shard smallint, p_business_date date, p_effects jsonb, p_verdicts text[], p_ids bigint[],
    p_card_ids bigint[], p_at_us bigint[], p_now_us bigint
) returns void
language plpgsql as $$
begin
    insert into ledger.listing
    select p_shard, p_ids[e.n], l.list, l.value, l.field, l.rule_id, p_at_us[e.n] + 2000000,
           l.until_us, p_now_us
    from jsonb_to_recordset(p_effects) as e (n integer, listings jsonb)
    cross join lateral jsonb_to_recordset(e.listings)
         as l (list text, field text, value text, rule_id text, until_us bigint)
    where p_verdicts[e.n] = 'posted'
    on conflict do nothing;

    insert into ledger.review
    select p_shard, p_ids[e.n], p_business_date, r.queue, r.rule_id, p_card_ids[e.n], p_at_us[e.n]
    from jsonb_to_recordset(p_effects) as e (n integer, reviews jsonb)
    cross join lateral jsonb_to_recordset(e.reviews) as r (queue text, rule_id text)
    where p_verdicts[e.n] = 'posted'
    on conflict do nothing;

    insert into ledger.tag
    select p_shard, p_ids[e.n], t.tag, t.rule_id, p_business_date
    from jsonb_to_recordset(p_effects) as e (n integer, tags jsonb)
    cross join lateral jsonb_to_recordset(e.tags) as t (tag text, rule_id text)
    where p_verdicts[e.n] = 'posted'
    on conflict do nothing;
end $$;

-- Minute buckets (parallel arrays; p_row is the 1-based row that each belongs to), added up over
-- the batch: a busy terminal is one row written, however many of its requests are in it. The
-- slot's lane is the only writer of its rows, so no two workers wait for each other; ordered all
-- the same, for a slot has two workers while one of them drains.
create or replace function ledger.post_buckets(
    p_shard smallint, p_slot smallint, p_verdicts text[], p_row integer[], p_series bytea[],
    p_key text[], p_minute integer[], p_amount bigint[]
) returns void
language plpgsql as $$
begin
    insert into ledger.bucket as b
    select a.minute, p_shard, p_slot, a.series, a.key, sum(a.amount)
    from unnest(p_row, p_series, p_key, p_minute, p_amount) as a (n, series, key, minute, amount)
    where p_verdicts[a.n] = 'posted'
    group by a.minute, a.series, a.key
    order by a.minute, a.series, a.key
    on conflict (minute, shard, slot, series, key) do update
    set amount = b.amount + excluded.amount;
end $$;
