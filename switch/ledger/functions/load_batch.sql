-- Everything the decisions of one batch need, in one call: per request the account, the
-- card, its purses, the last 24 hours of the account, and what is stored under the same
-- idempotency key. Nothing is locked; post_batch checks the version.
--
-- p_account_ids, p_card_ids, p_keys: one element a request; account 0 is an unknown card.
-- p_originals: the authorization a reversal gives back, or 0.
-- `*_followed_by`: what refers to the stored message or the original. A `reversal` gave it
-- back, each `repeat` gave it out again, each `withdrawn` takes one such answer back.
-- A row a request comes back, in request order. History columns are newest first and at most
-- p_events_max long: purchases and loads, and the reversals that gave some of them back.
create or replace function ledger.load_batch(
    p_shard smallint, p_business_date date, p_since_us bigint, p_events_max integer,
    p_account_ids bigint[], p_card_ids bigint[], p_keys bytea[], p_originals bigint[]
) returns table (
    account_version bigint, account_status text, tier text, product text,
    card_status text, expires_yymm text, last4 text,
    purse smallint[], balance_minor bigint[], held_minor bigint[], floor_minor bigint[],
    month_count integer[], month_minor bigint[],
    at_us bigint[], card_id bigint[], kind text[], amount_minor bigint[], outcome text[],
    authorization_id bigint[], original_id bigint[], segment text[], mcc text[],
    merchant text[], terminal text[],
    stored_id bigint, stored_payload_hash bytea, stored_outcome text, stored_approved_minor bigint,
    stored_auth_code text, stored_rrn text, stored_at_us bigint, stored_followed_by text[],
    original_account_id bigint, original_kind text, original_outcome text, original_approved_minor bigint,
    original_purse smallint, original_business_date date,
    original_acquirer text, original_mcc text, original_followed_by text[]
) language plpgsql stable as $$
begin
    return query
    select a.version, a.status, a.tier, a.product,
           c.status, c.expires_yymm, c.last4,
           p.purses, p.balances, p.helds, p.floors, p.month_counts, p.month_minors,
           h.ats, h.cards, h.kinds, h.amounts, h.outcomes, h.ids, h.originals, h.segments, h.mccs,
           h.merchants, h.terminals,
           s.authorization_id, s.payload_hash, s.outcome, s.approved_minor, s.auth_code, s.rrn,
           s.at_us, s.followed_by,
           o.account_id, o.kind, o.outcome, o.approved_minor, o.purse, o.business_date, o.acquirer,
           o.mcc, o.followed_by
    from unnest(p_account_ids, p_card_ids, p_keys, p_originals) with ordinality
         as r (account_id, card_id, key, original_id, ordinal)
    left join ledger.account a on a.shard = p_shard and a.account_id = r.account_id
    left join ledger.card c on c.shard = p_shard and c.card_id = r.card_id
    left join lateral (
        select array_agg(u.purse) as purses, array_agg(u.balance_minor) as balances,
               array_agg(u.held_minor) as helds, array_agg(u.floor_minor) as floors,
               array_agg(case when u.month = date_trunc('month', p_business_date)::date
                              then u.month_count else 0 end) as month_counts,
               array_agg(case when u.month = date_trunc('month', p_business_date)::date
                              then u.month_minor else 0 end) as month_minors
        from ledger.purse u
        where u.shard = p_shard and u.account_id = r.account_id
    ) p on true
    left join lateral (
        select array_agg(e.at_us) as ats, array_agg(e.card_id) as cards, array_agg(e.kind) as kinds,
               array_agg(e.amount_minor) as amounts, array_agg(e.outcome) as outcomes,
               array_agg(e.authorization_id) as ids, array_agg(e.original_id) as originals,
               array_agg(e.segment) as segments, array_agg(e.mcc) as mccs,
               array_agg(e.merchant) as merchants, array_agg(e.terminal) as terminals
        from (
            select n.at_us, n.card_id, n.kind, n.amount_minor, n.outcome, n.authorization_id,
                   n.original_id, n.segment, n.mcc, n.merchant, n.terminal
            from ledger.authorization n
            where r.account_id <> 0
              and n.shard = p_shard and n.account_id = r.account_id and n.at_us > p_since_us
              and n.business_date between p_business_date - 1 and p_business_date + 1
              and (n.kind in ('purchase', 'load') or n.kind = 'reversal' and n.outcome = 'approved')
            order by n.at_us desc
            limit p_events_max
        ) e
    ) h on true
    left join lateral (
        select k.authorization_id, k.payload_hash, k.outcome, k.approved_minor, k.auth_code, k.rrn,
               k.at_us,
               (select array_agg(case when v.outcome = 'approved' then v.kind else 'withdrawn' end)
                from ledger.authorization v
                where v.account_id = k.account_id and v.shard = p_shard and v.at_us >= k.at_us
                  and v.original_id = k.authorization_id
                  and (v.outcome = 'approved' or v.kind = 'reversal' and v.outcome = 'answered_late')
                  and v.business_date between p_business_date - 1 and p_business_date + 1
               ) as followed_by
        from ledger.authorization k
        where k.shard = p_shard and k.key = r.key
          and k.business_date between p_business_date - 1 and p_business_date + 1
        limit 1
    ) s on true
    left join lateral (
        select q.account_id, q.kind, q.outcome, q.approved_minor, q.purse, q.business_date, q.acquirer,
               q.mcc,
               (select array_agg(case when v.outcome = 'approved' then v.kind else 'withdrawn' end)
                from ledger.authorization v
                where v.account_id = q.account_id and v.shard = p_shard and v.at_us >= q.at_us
                  and v.original_id = q.authorization_id
                  and (v.outcome = 'approved' or v.kind = 'reversal' and v.outcome = 'answered_late')
                  and v.business_date between p_business_date - 1 and p_business_date + 1
               ) as followed_by
        from ledger.authorization q
        where r.original_id <> 0
          and q.shard = p_shard and q.authorization_id = r.original_id
          and q.business_date between p_business_date - 1 and p_business_date
        limit 1
    ) o on true
    order by r.ordinal;
end $$;
