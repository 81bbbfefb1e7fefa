-- Posts one batch of decisions of one shard, all in this one transaction: the messages,
-- the transfers, the balances they move and the acquirers' positions.
--
-- p_lock_*: each account of the batch once, with the version its decisions were made on.
-- Rows (parallel arrays, one element a decision): see ledger.authorization; account 0 is an
-- unknown card. p_remaining_us is what was left of the request's budget when this call was
-- sent; p_spent_counts and p_spent_minor are what the row adds to the purse's totals.
-- p_venues, p_stops, p_vehicles: where it was made. p_taps and p_chips: see post_taps and
-- post_chips; null where no row has any, which is nearly always. p_spent_on: the business day in
-- whose week and month a row counts where that is not its own; null where every row counts in its
-- own. p_effects and p_bucket_*: see post_effects and post_buckets; null where no row has any.
-- Transfers, holds to open, holds to resolve and wrong PINs in a row (parallel arrays each):
-- p_*_row is the 1-based row each belongs to. A hold gets the id of its row; p_open_authorization
-- is what it stands for, 0 for the row itself.
--
-- A row comes back per decision, in order: 'posted'; 'expired' (its budget passed before
-- the locks were held; nothing written); 'conflict' (the account changed since it was
-- loaded, is not among the locked, or has a row that expired; load and decide again).
-- A posting that breaks an invariant raises, and nothing of the batch is written.
create or replace function ledger.post_batch(
    p_shard smallint, p_slot smallint, p_business_date date,
    p_lock_account_ids bigint[], p_lock_versions bigint[],
    p_account_ids bigint[], p_card_ids bigint[], p_at_us bigint[], p_remaining_us bigint[],
    p_keys bytea[], p_payload_hashes bytea[], p_message_classes text[], p_kinds text[],
    p_segments text[], p_links text[], p_acquirers text[], p_terminals text[],
    p_merchants text[], p_mccs text[], p_entry_modes text[], p_stans text[],
    p_local_ats text[], p_rrns text[], p_auth_codes text[], p_currencies text[],
    p_amounts_minor bigint[], p_approved_minor bigint[], p_purses smallint[], p_outcomes text[],
    p_original_ids bigint[], p_rulesets text[], p_rule_results bytea[], p_explanations text[],
    p_spent_counts integer[], p_spent_minor bigint[],
    p_transfer_row integer[], p_transfer_debit bigint[], p_transfer_credit bigint[],
    p_transfer_minor bigint[], p_transfer_kind text[],
    p_open_row integer[], p_open_purpose text[], p_open_purse smallint[], p_open_minor bigint[],
    p_open_expires_at_us bigint[], p_open_authorization bigint[],
    p_resolve_row integer[], p_resolve_hold bigint[], p_resolve_status text[],
    p_pin_row integer[], p_pin_tries smallint[],
    p_venues text[], p_stops text[], p_vehicles text[], p_taps jsonb, p_chips jsonb,
    p_spent_on date[], p_effects jsonb, p_bucket_row integer[], p_bucket_series bytea[],
    p_bucket_key text[], p_bucket_minute integer[], p_bucket_amount bigint[]
) returns table (verdict text, authorization_id bigint, posted_at_us bigint)
language plpgsql as $$
declare
    sent_at_us    bigint := (extract(epoch from statement_timestamp()) * 1000000)::bigint;
    now_us        bigint;
    fresh         bigint[];
    late          bigint[];
    verdicts      text[];
    ids           bigint[];
    resolving     integer[];
    freed_books   bigint[] := '{}';
    freed_minor   bigint[] := '{}';
    resolved      integer;
    overspent     boolean;
    purses_due    integer;
    purses_moved  integer;
    this_week     date := date_trunc('week', p_business_date)::date;
    this_month    date := date_trunc('month', p_business_date)::date;
begin
    -- Locks in account order, so that two batches wait for each other but never in a ring.
    -- Each row is locked once and looked up by position: a join here would, with nothing but
    -- nested loops to choose from, lock every row again for every row.
    with locked as materialized (
        select a.account_id, a.version from ledger.account a
        where a.shard = p_shard and a.account_id = any (p_lock_account_ids)
        order by a.account_id
        for update
    )
    select coalesce(array_agg(l.account_id), '{}') into fresh
    from locked l
    where l.version = p_lock_versions[array_position(p_lock_account_ids, l.account_id)];

    now_us := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    select coalesce(array_agg(r.account_id), '{}') into late
    from unnest(p_account_ids, p_remaining_us) as r (account_id, remaining_us)
    where r.remaining_us <= now_us - sent_at_us and r.account_id <> 0;

    select array_agg(case
               when r.remaining_us <= now_us - sent_at_us then 'expired'
               when r.account_id <> 0
                    and (r.account_id <> all (fresh) or r.account_id = any (late)) then 'conflict'
               else 'posted' end order by r.n),
           array_agg(nextval('ledger.entry_id') order by r.n)
    into verdicts, ids
    from unnest(p_account_ids, p_remaining_us) with ordinality as r (account_id, remaining_us, n);

    insert into ledger.authorization
    select p_business_date, p_shard, ids[r.n], r.account_id, r.card_id, r.at_us, now_us,
           sent_at_us + r.remaining_us, r.key, r.payload_hash, r.message_class, r.kind, r.segment,
           r.link, r.acquirer, r.terminal, r.merchant, r.mcc, r.entry_mode, r.stan, r.local_at,
           r.rrn, r.auth_code, r.currency, r.amount_minor, r.approved_minor, r.purse, r.outcome,
           r.original_id, r.ruleset, r.rule_results, r.explanation, r.spent_count, r.spent_minor,
           r.venue, r.stop, r.vehicle, r.spent_on
    from unnest(p_account_ids, p_card_ids, p_at_us, p_remaining_us, p_keys, p_payload_hashes,
                p_message_classes, p_kinds, p_segments, p_links, p_acquirers, p_terminals,
                p_merchants, p_mccs, p_entry_modes, p_stans, p_local_ats, p_rrns, p_auth_codes,
                p_currencies, p_amounts_minor, p_approved_minor, p_purses, p_outcomes,
                p_original_ids, p_rulesets, p_rule_results, p_explanations, p_spent_counts,
                p_spent_minor, p_venues, p_stops, p_vehicles, p_spent_on)
         with ordinality as r (account_id, card_id, at_us, remaining_us, key, payload_hash,
                message_class, kind, segment, link, acquirer, terminal, merchant, mcc, entry_mode,
                stan, local_at, rrn, auth_code, currency, amount_minor, approved_minor, purse,
                outcome, original_id, ruleset, rule_results, explanation, spent_count,
                spent_minor, venue, stop, vehicle, spent_on, n)
    where verdicts[r.n] = 'posted';

    -- What a decision moves must be what it approved, to the cent: a decline approves 0. A row
    -- without transfers approves the hold it opens; without that, the one it resolves (below).
    -- A journey's hold is nobody's approval: a tap approves what it is charged.
    if exists (
        select 1
        from (select r.n, r.minor as approved, 0::bigint as moved
              from unnest(p_approved_minor) with ordinality as r (minor, n)
              where r.n <> all (p_resolve_row) or r.n = any (p_transfer_row) or r.n = any (p_open_row)
              union all
              select t.n, 0, t.minor from unnest(p_transfer_row, p_transfer_minor) as t (n, minor)
              union all
              select o.n, 0, o.minor
              from unnest(p_open_row, p_open_purpose, p_open_minor) as o (n, purpose, minor)
              where o.n <> all (p_transfer_row) and o.purpose <> 'journey') m
        group by m.n
        having sum(m.approved) <> sum(m.moved)
    ) then
        raise exception 'a posting moves another amount than it approved; nothing of the batch was written'
            using errcode = 'check_violation';
    end if;

    -- A hold resolves once, by its own account's posting. What it freed goes with the purses.
    if cardinality(p_resolve_row) > 0 then
        select coalesce(array_agg(w.i), '{}') into resolving
        from unnest(p_resolve_row) with ordinality as w (n, i) where verdicts[w.n] = 'posted';

        with gone as (
            update ledger.hold h
            set status = p_resolve_status[w.i], resolved_by = ids[w.n], resolved_at_us = p_at_us[w.n]
            from (select f.i, p_resolve_row[f.i] as n from unnest(resolving) as f (i)) w
            where h.hold_id = p_resolve_hold[w.i] and h.shard = p_shard
              and h.account_id = p_account_ids[w.n] and h.status = 'open'
            returning h.account_id * 16 + h.purse as book, h.purpose, h.amount_minor as minor,
                      case when h.purpose = 'journey'
                           then w.n <> all (p_transfer_row) and p_approved_minor[w.n] <> 0
                           when w.n = any (p_transfer_row) or w.n = any (p_open_row)
                           then h.status = 'completed' and p_approved_minor[w.n] > h.amount_minor
                           else p_approved_minor[w.n] <> h.amount_minor end as overspent
        )
        select count(*), coalesce(bool_or(g.overspent), false),
               coalesce(array_agg(g.book) filter (where g.purpose <> 'load'), '{}'),
               coalesce(array_agg(g.minor) filter (where g.purpose <> 'load'), '{}')
        into resolved, overspent, freed_books, freed_minor
        from gone g;
        if resolved <> cardinality(resolving) then
            raise exception 'a posting resolves a hold that is not open in its account; nothing of the batch was written'
                using errcode = 'foreign_key_violation';
        end if;
        if overspent then
            raise exception 'a posting resolves a hold for another amount than it has; nothing of the batch was written'
                using errcode = 'check_violation';
        end if;
    end if;

    if cardinality(p_open_row) > 0 then
        -- One that is opened again keeps the words of the message it stands for.
        insert into ledger.hold
        select p_shard, ids[o.n], p_account_ids[o.n], coalesce(f.card_id, p_card_ids[o.n]), o.purse,
               o.purpose, o.minor, 'open',
               case when o.authorization_id = 0 then ids[o.n] else o.authorization_id end,
               p_at_us[o.n], o.expires_at_us, 0, 0,
               coalesce(f.segment, p_segments[o.n]), coalesce(f.acquirer, p_acquirers[o.n]),
               coalesce(f.link, p_links[o.n]), coalesce(f.terminal, p_terminals[o.n]),
               coalesce(f.merchant, p_merchants[o.n]), coalesce(f.mcc, p_mccs[o.n]),
               coalesce(f.rrn, p_rrns[o.n]), coalesce(f.auth_code, p_auth_codes[o.n]),
               p_currencies[o.n], coalesce(f.venue, p_venues[o.n])
        from unnest(p_open_row, p_open_purpose, p_open_purse, p_open_minor, p_open_expires_at_us,
                    p_open_authorization)
             as o (n, purpose, purse, minor, expires_at_us, authorization_id)
        left join ledger.hold f on f.hold_id = o.authorization_id and f.shard = p_shard
        where verdicts[o.n] = 'posted';
    end if;

    if cardinality(p_pin_row) > 0 then
        update ledger.card c set pin_tries = w.tries
        from (select distinct on (p_card_ids[t.n]) p_card_ids[t.n] as card_id, t.tries
              from unnest(p_pin_row, p_pin_tries) as t (n, tries)
              where verdicts[t.n] = 'posted'
              order by p_card_ids[t.n], t.n desc) w
        where c.shard = p_shard and c.card_id = w.card_id;
    end if;

    if cardinality(p_transfer_row) > 0 or 1 = any (p_spent_counts)
       or cardinality(p_open_row) > 0 or cardinality(p_resolve_row) > 0 then
        insert into ledger.transfer
        select p_business_date, p_shard, nextval('ledger.entry_id'), ids[t.n], t.debit, t.credit,
               t.minor, p_currencies[t.n], t.kind
        from unnest(p_transfer_row, p_transfer_debit, p_transfer_credit, p_transfer_minor, p_transfer_kind)
             as t (n, debit, credit, minor, kind)
        where verdicts[t.n] = 'posted';

        with moved as (
            select t.debit as book, -t.minor as delta, 0 as spent_count, 0::bigint as spent_minor,
                   null::date as spent_on, 0::bigint as held
            from unnest(p_transfer_row, p_transfer_debit, p_transfer_minor) as t (n, debit, minor)
            where verdicts[t.n] = 'posted' and t.debit >= 16000000
            union all
            select t.credit, t.minor, 0, 0, null, 0
            from unnest(p_transfer_row, p_transfer_credit, p_transfer_minor) as t (n, credit, minor)
            where verdicts[t.n] = 'posted' and t.credit >= 16000000
            union all
            select r.account_id * 16 + r.purse, 0, r.spent_count, r.spent_minor,
                   coalesce(p_spent_on[r.n], p_business_date), 0
            from unnest(p_account_ids, p_purses, p_spent_counts, p_spent_minor)
                 with ordinality as r (account_id, purse, spent_count, spent_minor, n)
            where verdicts[r.n] = 'posted' and (r.spent_count <> 0 or r.spent_minor <> 0)
            union all
            select p_account_ids[o.n] * 16 + o.purse, 0, 0, 0, null, o.minor
            from unnest(p_open_row, p_open_purpose, p_open_purse, p_open_minor)
                 as o (n, purpose, purse, minor)
            where verdicts[o.n] = 'posted' and o.purpose <> 'load'
            union all
            select f.book, 0, 0, 0, null, -f.minor
            from unnest(freed_books, freed_minor) as f (book, minor)
        ), due as (
            select m.book / 16 as account_id, (m.book % 16)::smallint as purse, sum(m.delta) as delta,
                   sum(m.spent_count)::integer as spent_count, sum(m.spent_minor)::bigint as spent_minor,
                   coalesce(sum(m.spent_count) filter (where p.week), 0)::integer as week_count,
                   coalesce(sum(m.spent_minor) filter (where p.week), 0)::bigint as week_minor,
                   coalesce(sum(m.spent_count) filter (where p.month), 0)::integer as month_count,
                   coalesce(sum(m.spent_minor) filter (where p.month), 0)::bigint as month_minor,
                   sum(m.held) as held
            from moved m
            cross join lateral (
                select m.spent_on >= this_week and m.spent_on < this_week + 7 as week,
                       m.spent_on >= this_month and m.spent_on < this_month + interval '1 month' as month
            ) p
            group by m.book
        ), written as (
            update ledger.purse u
            set balance_minor = u.balance_minor + d.delta,
                held_minor = u.held_minor + d.held,
                -- A batch of the last day may come after the new month's first: its spending
                -- belongs to a month whose totals nobody reads any more. Weeks are alike.
                week = greatest(u.week, this_week),
                week_count = case when u.week < this_week then d.week_count
                                  when u.week = this_week then u.week_count + d.week_count
                                  else u.week_count end,
                week_minor = case when u.week < this_week then d.week_minor
                                  when u.week = this_week then u.week_minor + d.week_minor
                                  else u.week_minor end,
                month = greatest(u.month, this_month),
                month_count = case when u.month < this_month then d.month_count
                                   when u.month = this_month then u.month_count + d.month_count
                                   else u.month_count end,
                month_minor = case when u.month < this_month then d.month_minor
                                   when u.month = this_month then u.month_minor + d.month_minor
                                   else u.month_minor end,
                lifetime_count = u.lifetime_count + d.spent_count,
                lifetime_minor = u.lifetime_minor + d.spent_minor
            from due d
            where u.shard = p_shard and u.account_id = d.account_id and u.purse = d.purse
            returning 1
        )
        select (select count(*) from due), (select count(*) from written) into purses_due, purses_moved;
        if purses_due <> purses_moved then
            raise exception 'a posting names a purse that does not exist in shard %; nothing of the batch was written', p_shard
                using errcode = 'foreign_key_violation';
        end if;

        -- What counts in another week or month than this day's, where the purse has the totals of
        -- that one: a batch of the last day gives back what the first of the new one has sold.
        if p_spent_on is not null then
            update ledger.purse u
            set week_count = u.week_count + l.week_count, week_minor = u.week_minor + l.week_minor,
                month_count = u.month_count + l.month_count,
                month_minor = u.month_minor + l.month_minor
            from (
                select v.account_id, v.purse,
                       coalesce(sum(s.spent_count) filter (where s.week = v.week and s.week <> this_week), 0)::integer as week_count,
                       coalesce(sum(s.spent_minor) filter (where s.week = v.week and s.week <> this_week), 0)::bigint as week_minor,
                       coalesce(sum(s.spent_count) filter (where s.month = v.month and s.month <> this_month), 0)::integer as month_count,
                       coalesce(sum(s.spent_minor) filter (where s.month = v.month and s.month <> this_month), 0)::bigint as month_minor
                from (
                    select r.account_id, r.purse, r.spent_count, r.spent_minor,
                           date_trunc('week', r.spent_on)::date as week,
                           date_trunc('month', r.spent_on)::date as month
                    from unnest(p_account_ids, p_purses, p_spent_counts, p_spent_minor, p_spent_on)
                         with ordinality as r (account_id, purse, spent_count, spent_minor, spent_on, n)
                    where verdicts[r.n] = 'posted' and r.spent_on is not null
                ) s
                join ledger.purse v on v.shard = p_shard and v.account_id = s.account_id and v.purse = s.purse
                group by v.account_id, v.purse
            ) l
            where u.shard = p_shard and u.account_id = l.account_id and u.purse = l.purse;
        end if;

        insert into ledger.position as p
        select p_shard, p_business_date, b.book, p_slot, sum(b.debit), sum(b.credit), count(*)
        from (
            select t.debit as book, t.minor as debit, 0::bigint as credit
            from unnest(p_transfer_row, p_transfer_debit, p_transfer_minor) as t (n, debit, minor)
            where verdicts[t.n] = 'posted' and t.debit < 16000000
            union all
            select t.credit, 0, t.minor
            from unnest(p_transfer_row, p_transfer_credit, p_transfer_minor) as t (n, credit, minor)
            where verdicts[t.n] = 'posted' and t.credit < 16000000
        ) b
        group by b.book
        order by b.book
        on conflict (shard, business_date, settlement_account_id, slot) do update
        set debit_minor = p.debit_minor + excluded.debit_minor,
            credit_minor = p.credit_minor + excluded.credit_minor,
            transfer_count = p.transfer_count + excluded.transfer_count;
    end if;

    if p_taps is not null then
        perform ledger.post_taps(p_shard, p_business_date, p_taps, verdicts, ids, p_account_ids,
                                 p_card_ids, p_outcomes, p_transfer_row, p_transfer_credit,
                                 p_transfer_minor);
    end if;
    if p_chips is not null then
        perform ledger.post_chips(p_shard, p_business_date, p_chips, verdicts, ids, p_card_ids,
                                  p_amounts_minor);
    end if;
    if p_effects is not null then
        perform ledger.post_effects(p_shard, p_business_date, p_effects, verdicts, ids, p_card_ids,
                                    p_at_us, now_us);
    end if;
    if p_bucket_row is not null then
        perform ledger.post_buckets(p_shard, p_slot, verdicts, p_bucket_row, p_bucket_series,
                                    p_bucket_key, p_bucket_minute, p_bucket_amount);
    end if;

    update ledger.account a set version = a.version + 1
    where a.shard = p_shard and a.account_id in (
        select r.account_id from unnest(p_account_ids) with ordinality as r (account_id, n)
        where verdicts[r.n] = 'posted' and r.account_id <> 0);

    return query
    select v.verdict, ids[v.n], now_us from unnest(verdicts) with ordinality as v (verdict, n) order by v.n;
end $$;
