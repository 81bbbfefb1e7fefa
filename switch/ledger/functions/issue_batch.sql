-- Opens accounts with their purses, cards and directory entries, set-based; a purse CHIP for a
-- card whose chip has one.
--
-- The shard is fixed here, once, from the account id. A medium that already exists is left
-- alone and comes back with its account. Rows: card id, account id, shard, whether new.
create or replace function ledger.issue_batch(
    p_shards smallint, p_mediums bytea[], p_last4 text[], p_expires_yymm text[],
    p_tiers text[], p_products text[], p_chips boolean[], p_overdraft_minor bigint
) returns table (medium bytea, shard smallint, account_id bigint, card_id bigint, issued boolean)
language plpgsql as $$
begin
    return query
    with wanted as materialized (
        select w.medium, w.last4, w.expires_yymm, w.tier, w.product, w.chip, w.n
        from unnest(p_mediums, p_last4, p_expires_yymm, p_tiers, p_products, p_chips)
             with ordinality as w (medium, last4, expires_yymm, tier, product, chip, n)
    ), fresh as materialized (
        select w.*, nextval('ledger.account_id') as account_id, nextval('ledger.card_id') as card_id
        from (select distinct on (x.medium) x.* from wanted x
              where not exists (select 1 from ledger.medium k where k.medium = x.medium)
              order by x.medium, x.n) w
    ), directory as (
        insert into ledger.medium as k (medium, shard, account_id, card_id)
        select f.medium, (f.account_id % p_shards)::smallint, f.account_id, f.card_id from fresh f
        returning k.medium, k.shard, k.account_id, k.card_id
    ), accounts as (
        insert into ledger.account (shard, account_id, tier, product)
        select (f.account_id % p_shards)::smallint, f.account_id, f.tier, f.product from fresh f
    ), cards as (
        insert into ledger.card (shard, card_id, account_id, last4, expires_yymm)
        select (f.account_id % p_shards)::smallint, f.card_id, f.account_id, f.last4, f.expires_yymm
        from fresh f
    ), purses as (
        insert into ledger.purse (shard, account_id, purse, floor_minor)
        select (f.account_id % p_shards)::smallint, f.account_id, v.purse,
               case when v.purse = 1 then -p_overdraft_minor else 0 end
        from fresh f, (values (1::smallint), (2::smallint), (3::smallint)) as v (purse)
        where v.purse <> 3 or f.chip
    )
    select d.medium, d.shard, d.account_id, d.card_id, true from directory d
    union all
    select k.medium, k.shard, k.account_id, k.card_id, false
    from ledger.medium k where k.medium = any (p_mediums);
end $$;
