-- Taps and chips: what load_batch looks up for them and what post_batch writes of them. Functions
-- of their own, so that a batch of plain sales does not even prepare for them.

-- What a tap is priced by: the taps of its account on a fare day that no reversal took back, and
-- the rights to a fare class that the account has around that day; the words of
-- posting.FareFacts as JSON, null where there is no such day.
--
-- Tap-ons of another fare day are among them where their journey ended on this one, or has not
-- ended; where it was over in the week before, with what it was charged then. p_fare_date null:
-- the fare day of the tap p_tap_on, whose journey is over. At most p_taps_max taps, oldest event
-- first. Days that were put away are not looked at.
create or replace function ledger.fare_facts(
    p_shard smallint, p_business_date date, p_account_id bigint, p_fare_date date,
    p_tap_on bigint, p_taps_max integer
) returns jsonb
language plpgsql stable as $$
declare
    day date := p_fare_date;
begin
    if p_account_id = 0 then
        return null;
    end if;
    if day is null then
        select t.fare_date into day from ledger.tap t
        where t.authorization_id = p_tap_on and t.shard = p_shard and t.account_id = p_account_id
        limit 1;
        if day is null then
            return null;
        end if;
    end if;
    return (
        with of_day as materialized (
            -- A fare day is over within its business day and the next one, and is posted in
            -- none before: a tap is never later than its message.
            select t.* from ledger.tap t
            where t.account_id = p_account_id and t.shard = p_shard and t.fare_date = day
              and t.business_date between day - 1 and p_business_date + 1
        ), journey as materialized (
            select d.journey_id from of_day d where d.journey_id <> 0
            union
            select h.authorization_id from ledger.hold h
            where h.account_id = p_account_id and h.shard = p_shard and h.status = 'open'
              and h.purpose = 'journey'
        ), over_before as materialized (
            -- One whose other tap came is over for every day but that tap's own.
            select h.authorization_id, h.resolved_by from ledger.hold h
            where h.account_id = p_account_id and h.shard = p_shard and h.status = 'expired'
              and h.purpose = 'journey'
              and h.expires_at_us >= (extract(epoch from (day - 7)::timestamp) * 1000000)::bigint
              and not exists (
                  select 1 from ledger.tap f
                  where f.account_id = p_account_id and f.shard = p_shard
                    and f.fare_date between day - 8 and day + 8 and f.fare_date <> day
                    and f.business_date between day - 9 and p_business_date + 1
                    and f.kind = 'tap_off' and f.journey_id = h.authorization_id
                    and not exists (
                        select 1 from ledger.authorization w
                        where w.original_id = f.authorization_id and w.original_id <> 0
                          and w.shard = p_shard and w.kind = 'reversal'
                          and w.outcome = 'approved'
                          and w.business_date between day - 9 and p_business_date + 1))
        ), named as materialized (
            select j.journey_id as authorization_id from journey j
            union
            select o.authorization_id from over_before o
            union
            select o.resolved_by from over_before o
        ), told as materialized (
            select d.* from of_day d
            union all
            select t.* from named n
            join ledger.tap t on t.authorization_id = n.authorization_id and t.shard = p_shard
                             and t.business_date between day - 9 and p_business_date + 1
            where t.fare_date <> day
        ), standing as (
            select t.* from told t
            where not exists (
                select 1 from ledger.authorization w
                where w.original_id = t.authorization_id and w.original_id <> 0
                  and w.shard = p_shard and w.kind = 'reversal' and w.outcome = 'approved'
                  and w.business_date between day - 2 and p_business_date + 1)
            order by t.event_at_us, t.authorization_id
            limit p_taps_max
        )
        select jsonb_build_object(
            'taps', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'kind', s.kind, 'event_at_us', s.event_at_us, 'mode', s.mode,
                    'line', s.line, 'stop', s.stop, 'vehicle', s.vehicle, 'acquirer', s.acquirer,
                    'fare', jsonb_build_object(
                        'nominal_minor', s.nominal_minor, 'concession_minor', s.concession_minor,
                        'transfer_minor', s.transfer_minor, 'cap_minor', s.cap_minor,
                        'recomputed_minor', s.recomputed_minor, 'fare_class', s.fare_class,
                        'fare_version', s.fare_version),
                    'fare_date', s.fare_date, 'authorization_id', s.authorization_id,
                    'journey_id', s.journey_id) order by s.event_at_us, s.authorization_id), '[]')
                from standing s),
            'entitlements', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'fare_class', e.fare_class, 'from_us', e.from_us,
                    'until_us', least(e.until_us, e.revoked_at_us))
                    order by e.from_us, e.entitlement_id), '[]')
                from ledger.entitlement e
                -- A day more on either side than any time zone needs: each tap asks for itself.
                where e.account_id = p_account_id and e.shard = p_shard
                  and e.from_us < (extract(epoch from (day + 2)::timestamp) * 1000000)::bigint
                  and least(e.until_us, e.revoked_at_us) > greatest(
                      e.from_us, (extract(epoch from (day - 1)::timestamp) * 1000000)::bigint)))
    );
end $$;

-- What is known of a card's chip, and what is stored under one of its counters: the words of
-- posting.ChipFacts as JSON. At most p_gaps_max gaps, lowest first, and as many other digests.
create or replace function ledger.chip_facts(
    p_shard smallint, p_card_id bigint, p_counter integer, p_gaps_max integer
) returns jsonb
language plpgsql stable as $$
declare
    chip   ledger.chip;
    record ledger.chip_record;
begin
    select c.* into chip from ledger.chip c where c.card_id = p_card_id and c.shard = p_shard;
    if chip.card_id is null then
        return '{}';
    end if;
    select r.* into record from ledger.chip_record r
    where r.card_id = p_card_id and r.shard = p_shard and r.counter = p_counter;
    return jsonb_build_object(
        'highest', chip.highest,
        'gaps', (
            select coalesce(jsonb_agg(jsonb_build_object('first', g.first, 'last', g.last)
                                      order by g.first), '[]')
            from (select lower(u.gap) as first, upper(u.gap) - 1 as last
                  from unnest(chip.missing) as u (gap) order by 1 limit p_gaps_max) g),
        'stored_digest', coalesce(encode(record.digest, 'base64'), ''),
        'stored_batch', coalesce(encode(record.batch, 'base64'), ''),
        'stored_suspense', coalesce(record.suspense, false),
        'proven_counter', chip.proven_counter,
        'proven_missing_minor', chip.proven_missing_minor,
        'other_digests', (
            select coalesce(jsonb_agg(encode(e.digest, 'base64') order by e.digest), '[]')
            from (select o.digest from ledger.chip_other_record o
                  where o.card_id = p_card_id and o.shard = p_shard and o.counter = p_counter
                  order by o.digest limit p_gaps_max) e));
end $$;

-- Writes the priced taps of a batch: p_taps is an array of the words of ledger.tap, with `n`, the
-- 1-based row of each. What a tap is charged must be what its row moves, less what it gives back.
create or replace function ledger.post_taps(
    p_shard smallint, p_business_date date, p_taps jsonb, p_verdicts text[], p_ids bigint[],
    p_account_ids bigint[], p_card_ids bigint[], p_outcomes text[],
    p_transfer_row integer[], p_transfer_credit bigint[], p_transfer_minor bigint[]
) returns void
language plpgsql as $$
begin
    insert into ledger.tap
    select p_business_date, p_shard, p_ids[t.n], p_account_ids[t.n], p_card_ids[t.n], t.fare_date,
           t.kind, t.event_at_us, t.mode, t.line, t.stop, t.vehicle, t.acquirer, t.fare_class,
           t.fare_version, t.nominal_minor, t.concession_minor, t.transfer_minor, t.cap_minor,
           t.recomputed_minor, t.charged_minor, t.journey_id
    from jsonb_to_recordset(p_taps) as t (
        n integer, fare_date date, kind text, event_at_us bigint, mode text, line text, stop text,
        vehicle text, acquirer text, fare_class smallint, fare_version integer,
        nominal_minor bigint, concession_minor bigint, transfer_minor bigint, cap_minor bigint,
        recomputed_minor bigint, charged_minor bigint, journey_id bigint)
    where p_verdicts[t.n] = 'posted';

    if exists (
        select 1
        from jsonb_to_recordset(p_taps) as t (n integer, charged_minor bigint)
        cross join lateral (
            select coalesce(sum(case when m.credit >= 16000000 then -m.minor else m.minor end), 0)
                   as minor
            from unnest(p_transfer_row, p_transfer_credit, p_transfer_minor) as m (n, credit, minor)
            where m.n = t.n
        ) moved
        where t.charged_minor <> moved.minor or p_outcomes[t.n] <> 'approved'
    ) then
        raise exception 'a tap is charged another amount than its posting moves; nothing of the batch was written'
            using errcode = 'check_violation';
    end if;
end $$;

-- Writes what the rows of a batch say of chips: p_chips is an array of the words of
-- posting.ChipChange, with `n`, the 1-based row of each; no digest: what a chip said at a load.
--
-- A counter is taken once. Another record under it, in suspense, is kept beside it by its digest;
-- one that moved a purse under a counter that is taken breaks the table's key, and with it the
-- batch.
create or replace function ledger.post_chips(
    p_shard smallint, p_business_date date, p_chips jsonb, p_verdicts text[], p_ids bigint[],
    p_card_ids bigint[], p_amounts_minor bigint[]
) returns void
language plpgsql as $$
begin
    insert into ledger.chip (shard, card_id)
    select distinct p_shard, p_card_ids[t.n] from jsonb_to_recordset(p_chips) as t (n integer)
    where p_verdicts[t.n] = 'posted'
    on conflict do nothing;

    insert into ledger.chip_record
    select p_shard, p_card_ids[t.n], t.counter, t.digest, t.batch, p_ids[t.n], p_business_date,
           p_amounts_minor[t.n], false, c.proven_by
    from jsonb_to_recordset(p_chips)
         as t (n integer, counter integer, digest bytea, batch bytea, suspense boolean)
    join ledger.chip c on c.card_id = p_card_ids[t.n] and c.shard = p_shard
    where p_verdicts[t.n] = 'posted' and t.digest <> '' and not t.suspense;

    with suspended as materialized (
        select t.n, p_card_ids[t.n] as card_id, t.counter, t.digest, t.batch
        from jsonb_to_recordset(p_chips)
             as t (n integer, counter integer, digest bytea, batch bytea, suspense boolean)
        where p_verdicts[t.n] = 'posted' and t.digest <> '' and t.suspense
    ), first as (
        insert into ledger.chip_record as k
        select p_shard, s.card_id, s.counter, s.digest, s.batch, p_ids[s.n], p_business_date,
               p_amounts_minor[s.n], true, c.proven_by
        from suspended s
        join ledger.chip c on c.card_id = s.card_id and c.shard = p_shard
        order by s.n
        on conflict do nothing
        returning k.authorization_id
    )
    insert into ledger.chip_other_record
    select p_shard, s.card_id, s.counter, s.digest, s.batch, p_ids[s.n], p_business_date,
           p_amounts_minor[s.n]
    from suspended s
    where p_ids[s.n] not in (select f.authorization_id from first f);

    -- What is above the highest is missing until it comes.
    update ledger.chip c
    set highest = greatest(c.highest, w.top),
        missing = c.missing
                  + int4multirange(int4range(c.highest + 1, greatest(c.highest, w.top) + 1))
                  - w.came
    from (select p_card_ids[t.n] as card_id, max(t.counter) as top,
                 range_agg(int4range(t.counter, t.counter, '[]')) as came
          from jsonb_to_recordset(p_chips) as t (n integer, counter integer, digest bytea)
          where p_verdicts[t.n] = 'posted' and t.digest <> ''
          group by 1) w
    where c.card_id = w.card_id and c.shard = p_shard;

    update ledger.chip c
    set proven_counter = w.counter, proven_missing_minor = w.missing_minor, proven_by = w.id
    from (select distinct on (p_card_ids[t.n]) p_card_ids[t.n] as card_id, t.counter,
                 t.missing_minor, p_ids[t.n] as id
          from jsonb_to_recordset(p_chips)
               as t (n integer, counter integer, digest bytea, missing_minor bigint)
          where p_verdicts[t.n] = 'posted' and t.digest = ''
          order by p_card_ids[t.n], t.n desc) w
    where c.card_id = w.card_id and c.shard = p_shard;
end $$;
