-- Everything the decisions of one batch need, in one call: per request the account, the
-- card, its purses, the last 24 hours of the account, what is stored under the same
-- idempotency key, and for some the message they are about, the account's open holds, its
-- taps of a fare day, or what is known of the card's chip.
-- Nothing is locked; post_batch checks the version.
--
-- p_account_ids, p_card_ids, p_keys: one element a request; account 0 is an unknown card.
-- p_related: 0 for a request that stands for itself, else its place in the arrays from
-- p_wants_holds on, which say what else it needs: see find_original, open_holds, fare_facts (for
-- the fare day p_fare_dates, null: that of the original) and chip_facts. Null in
-- p_original_from and p_chip_counters: none is asked for.
-- A row a request comes back, in request order. History columns are newest first and at most
-- p_events_max long: what counts as spending or loading, and what gave some of that back.
create or replace function ledger.load_batch(
    p_shard smallint, p_business_date date, p_since_us bigint, p_events_max integer,
    p_holds_max integer,
    p_account_ids bigint[], p_card_ids bigint[], p_keys bytea[], p_related integer[],
    p_wants_holds boolean[], p_original_ids bigint[], p_original_keys bytea[],
    p_original_rrns text[], p_original_auth_codes text[], p_original_kinds text[],
    p_original_acquirers text[], p_original_terminals text[],
    p_original_from date[], p_original_until date[],
    p_wants_fares boolean[], p_fare_dates date[], p_taps_max integer,
    p_chip_counters integer[], p_gaps_max integer
) returns table (
    account_version bigint, account_status text, tier text, product text,
    card_status text, expires_yymm text, last4 text, pin_reference bytea, pin_tries smallint,
    hotlisted boolean, issued_us bigint,
    purse smallint[], balance_minor bigint[], held_minor bigint[], floor_minor bigint[],
    month_count integer[], month_minor bigint[], week_count integer[], week_minor bigint[],
    lifetime_count bigint[], lifetime_minor bigint[],
    at_us bigint[], card_id bigint[], kind text[], amount_minor bigint[], approved_minor bigint[],
    outcome text[], authorization_id bigint[], original_id bigint[], segment text[], mcc text[],
    merchant text[], terminal text[], venue text[], stop text[], vehicle text[],
    stored_id bigint, stored_payload_hash bytea, stored_kind text, stored_outcome text,
    stored_approved_minor bigint, stored_auth_code text, stored_rrn text, stored_at_us bigint,
    stored_followers jsonb, original jsonb, holds jsonb, fares jsonb, chip jsonb
) language plpgsql stable as $$
declare
    this_month date := date_trunc('month', p_business_date)::date;
    this_week date := date_trunc('week', p_business_date)::date;
begin
    return query
    select a.version, a.status, a.tier, a.product,
           c.status, c.expires_yymm, c.last4, c.pin_reference, c.pin_tries, c.hotlisted,
           (extract(epoch from c.issued_at) * 1000000)::bigint,
           p.purses, p.balances, p.helds, p.floors, p.month_counts, p.month_minors,
           p.week_counts, p.week_minors, p.lifetime_counts, p.lifetime_minors,
           h.ats, h.cards, h.kinds, h.amounts, h.approved, h.outcomes, h.ids, h.originals,
           h.segments, h.mccs, h.merchants, h.terminals, h.venues, h.stops, h.vehicles,
           s.authorization_id, s.payload_hash, s.kind, s.outcome, s.approved_minor, s.auth_code,
           s.rrn, s.at_us, s.followers,
           case when r.related <> 0 and p_original_from[r.related] is not null then ledger.find_original(
               p_shard, p_business_date, r.account_id, p_original_ids[r.related],
               p_original_keys[r.related], p_original_rrns[r.related],
               p_original_auth_codes[r.related],
               string_to_array(p_original_kinds[r.related], ' '),
               p_original_acquirers[r.related], p_original_terminals[r.related],
               p_original_from[r.related], p_original_until[r.related]) end,
           case when r.related <> 0 and p_wants_holds[r.related] then
               ledger.open_holds(p_shard, r.account_id, p_holds_max) end,
           case when r.related <> 0 and p_wants_fares[r.related] then
               ledger.fare_facts(p_shard, p_business_date, r.account_id, p_fare_dates[r.related],
                                 p_original_ids[r.related], p_taps_max) end,
           case when r.related <> 0 and p_chip_counters[r.related] is not null then
               ledger.chip_facts(p_shard, r.card_id, p_chip_counters[r.related], p_gaps_max) end
    from unnest(p_account_ids, p_card_ids, p_keys, p_related) with ordinality
         as r (account_id, card_id, key, related, ordinal)
    left join ledger.account a on a.shard = p_shard and a.account_id = r.account_id
    left join ledger.card c on c.shard = p_shard and c.card_id = r.card_id
    left join lateral (
        select array_agg(u.purse) as purses, array_agg(u.balance_minor) as balances,
               array_agg(u.held_minor) as helds, array_agg(u.floor_minor) as floors,
               array_agg(case when u.month = this_month then u.month_count else 0 end) as month_counts,
               array_agg(case when u.month = this_month then u.month_minor else 0 end) as month_minors,
               array_agg(case when u.week = this_week then u.week_count else 0 end) as week_counts,
               array_agg(case when u.week = this_week then u.week_minor else 0 end) as week_minors,
               array_agg(u.lifetime_count) as lifetime_counts,
               array_agg(u.lifetime_minor) as lifetime_minors
        from ledger.purse u
        where u.shard = p_shard and u.account_id = r.account_id
    ) p on true
    left join lateral (
        select array_agg(e.at_us) as ats, array_agg(e.card_id) as cards, array_agg(e.kind) as kinds,
               array_agg(e.amount_minor) as amounts, array_agg(e.approved_minor) as approved,
               array_agg(e.outcome) as outcomes,
               array_agg(e.authorization_id) as ids, array_agg(e.original_id) as originals,
               array_agg(e.segment) as segments, array_agg(e.mcc) as mccs,
               array_agg(e.merchant) as merchants, array_agg(e.terminal) as terminals,
               array_agg(e.venue) as venues, array_agg(e.stop) as stops,
               array_agg(e.vehicle) as vehicles
        from (
            select n.at_us, n.card_id, n.kind, n.amount_minor, n.approved_minor, n.outcome,
                   n.authorization_id, n.original_id, n.segment, n.mcc, n.merchant, n.terminal,
                   n.venue, n.stop, n.vehicle
            from ledger.authorization n
            where r.account_id <> 0
              and n.shard = p_shard and n.account_id = r.account_id and n.at_us > p_since_us
              and n.business_date between p_business_date - 1 and p_business_date + 1
              and (n.kind in ('purchase', 'load', 'preauthorization', 'offline_sale', 'fare',
                              'tap_on', 'tap_off', 'inspect', 'offline_fare', 'bill_inquiry', 'bill')
                   or n.kind in ('reversal', 'void', 'preauthorization_cancel')
                      and n.outcome = 'approved')
            order by n.at_us desc
            limit p_events_max
        ) e
    ) h on true
    left join lateral (
        select k.authorization_id, k.payload_hash, k.kind, k.outcome, k.approved_minor,
               k.auth_code, k.rrn, k.at_us,
               ledger.followers_of(p_shard, k.authorization_id, k.approved_minor,
                                   k.business_date - 1, p_business_date + 1) as followers
        from ledger.authorization k
        where k.shard = p_shard and k.key = r.key
          and k.business_date between p_business_date - 1 and p_business_date + 1
        limit 1
    ) s on true
    order by r.ordinal;
end $$;
