-- What load_batch looks up for the few messages that are about another one or about holds.
-- Functions of their own, so that a batch of plain purchases does not even prepare for them:
-- each look-up over the daily tables costs some microseconds before it has read a row.

-- What became of an approval: the words of posting.Followers as JSON, null where nothing did.
--
-- A message that was itself reversed whole is `undone`; one that was reversed in part is worth
-- what is left of it. The approval is `reversed` when a reversal left nothing of it standing;
-- before that, a reversal is one of the `changes`.
create or replace function ledger.followers_of(
    p_shard smallint, p_authorization_id bigint, p_approved_minor bigint, p_from date, p_until date
) returns jsonb
language plpgsql stable as $$
declare
    followers jsonb;
begin
    with follower as materialized (
        select v.authorization_id, v.kind, v.outcome, v.approved_minor, v.at_us, u.reversals,
               v.message_class,
               v.approved_minor - u.minor as worth_minor,
               u.reversals > 0 and v.approved_minor <= u.minor as undone
        from ledger.authorization v
        cross join lateral (
            select count(*) as reversals, coalesce(sum(w.approved_minor), 0)::bigint as minor
            from ledger.authorization w
            where w.original_id = v.authorization_id and w.original_id <> 0 and w.shard = p_shard
              and w.kind = 'reversal' and w.outcome = 'approved'
              and w.business_date between p_from and p_until
        ) u
        where v.original_id = p_authorization_id and v.original_id <> 0 and v.shard = p_shard
          and v.business_date between p_from and p_until
          and (v.outcome = 'approved' or v.kind = 'reversal' and v.outcome = 'answered_late')
    ), total as (
        select count(*) filter (where f.kind = 'repeat') as repeats,
               count(*) filter (where f.outcome = 'answered_late') as withdrawn,
               count(*) filter (where f.kind = 'reversal' and f.outcome = 'approved') > 0
               and p_approved_minor + coalesce(sum(
                       case f.kind when 'adjustment' then f.worth_minor
                                   when 'void' then -f.worth_minor
                                   when 'refund' then -f.worth_minor
                                   when 'credit_adjustment' then -f.worth_minor
                                   when 'reversal' then -f.worth_minor
                                   else 0 end) filter (where f.outcome = 'approved'), 0) <= 0
               as reversed,
               count(*) filter (where f.kind = 'reversal' and f.outcome = 'approved'
                                      and f.message_class = '04') > 0 as by_sender,
               count(*) as number
        from follower f
    )
    select case when t.number > 0 then jsonb_build_object(
               'reversed', t.reversed, 'taken_back', t.reversed and t.by_sender, 'repeats', t.repeats, 'withdrawn', t.withdrawn,
               'changes', coalesce((
                   select jsonb_agg(jsonb_build_object(
                              'authorization_id', f.authorization_id, 'kind', f.kind,
                              'approved_minor', case when f.undone then f.approved_minor
                                                     else f.worth_minor end,
                              'undone', f.undone) order by f.at_us, f.authorization_id)
                   from follower f
                   where f.outcome = 'approved' and f.kind <> 'repeat'
                     and not (f.kind = 'reversal' and t.reversed)), '[]')) end
    into followers
    from total t;
    return followers;
end $$;

-- The message that a linked one is about: by id, by key, else by RRN or approval code among
-- p_kinds of its acquirer (and of p_terminal, '' for any) on the business days given: an RRN is
-- the acquirer's own, and two terminals may draw the same. The words of posting.Original as JSON, null if it is not
-- found. Where an RRN or a code is on several, an approved one before the others, then the one
-- that fits both, then the newest.
create or replace function ledger.find_original(
    p_shard smallint, p_business_date date, p_account_id bigint, p_id bigint, p_key bytea,
    p_rrn text, p_auth_code text, p_kinds text[], p_acquirer text, p_terminal text,
    p_from date, p_until date
) returns jsonb
language plpgsql stable as $$
declare
    original  ledger.authorization;
    followers jsonb;
    hold      ledger.hold;
begin
    if p_id <> 0 then
        select q.* into original from ledger.authorization q
        where q.authorization_id = p_id and q.shard = p_shard
          and q.business_date between p_from and p_until
        limit 1;
    elsif octet_length(p_key) > 0 then
        select q.* into original from ledger.authorization q
        where q.key = p_key and q.shard = p_shard and q.business_date between p_from and p_until
        order by q.outcome = 'approved' desc, q.business_date desc
        limit 1;
    end if;
    if original.authorization_id is null and p_id = 0 and (p_rrn <> '' or p_auth_code <> '') then
        if p_account_id <> 0 then
            select q.* into original from ledger.authorization q
            where q.account_id = p_account_id and q.shard = p_shard
              and q.business_date between p_from and p_until and q.kind = any (p_kinds)
              and q.acquirer = p_acquirer and (p_terminal = '' or q.terminal = p_terminal)
              and (q.rrn = p_rrn and p_rrn <> ''
                   or q.auth_code = p_auth_code and p_auth_code <> '')
            order by q.outcome = 'approved' desc,
                     (q.rrn = p_rrn)::integer * 2 + (q.auth_code = p_auth_code)::integer desc,
                     q.at_us desc
            limit 1;
        else
            select q.* into original from ledger.authorization q
            where q.rrn = p_rrn and p_rrn <> '' and q.account_id = 0 and q.shard = p_shard
              and q.business_date between p_from and p_until and q.kind = any (p_kinds)
              and q.acquirer = p_acquirer and (p_terminal = '' or q.terminal = p_terminal)
            order by q.outcome = 'approved' desc, (q.auth_code = p_auth_code)::integer desc,
                     q.at_us desc
            limit 1;
        end if;
    end if;
    if original.authorization_id is null then
        return null;
    end if;
    followers := ledger.followers_of(p_shard, original.authorization_id, original.approved_minor,
                                     original.business_date - 1, p_business_date + 1);
    -- The hold that it opened, else the one that it resolved.
    select h.* into hold from ledger.hold h
    where h.hold_id = original.authorization_id and h.shard = p_shard;
    if not found then
        select h.* into hold from ledger.hold h
        where h.resolved_by = original.authorization_id and h.resolved_by <> 0 and h.shard = p_shard
        limit 1;
    end if;
    return jsonb_build_object(
        'account_id', original.account_id, 'kind', original.kind, 'outcome', original.outcome,
        'approved_minor', original.approved_minor, 'purse', original.purse,
        'business_date', original.business_date, 'acquirer', original.acquirer,
        'mcc', original.mcc,
        'followers', coalesce(followers, '{}'),
        'authorization_id', original.authorization_id, 'original_id', original.original_id,
        'at_us', original.at_us, 'currency', original.currency,
        'terminal', original.terminal, 'merchant', original.merchant, 'rrn', original.rrn,
        'auth_code', original.auth_code, 'spent_count', original.spent_count,
        'spent_minor', original.spent_minor, 'spent_on', original.spent_on,
        'legs', coalesce((
            select jsonb_agg(jsonb_build_object(
                       'debit_account_id', t.debit_account_id,
                       'credit_account_id', t.credit_account_id,
                       'amount_minor', t.amount_minor) order by t.transfer_id)
            from ledger.transfer t
            where t.authorization_id = original.authorization_id and t.shard = p_shard
              and t.business_date = original.business_date), '[]'),
        'hold', case when hold.hold_id is not null then jsonb_build_object(
            'hold_id', hold.hold_id, 'authorization_id', hold.authorization_id,
            'purpose', hold.purpose, 'purse', hold.purse, 'amount_minor', hold.amount_minor,
            'expires_at_us', hold.expires_at_us, 'acquirer', hold.acquirer, 'rrn', hold.rrn,
            'auth_code', hold.auth_code, 'terminal', hold.terminal, 'mcc', hold.mcc) end,
        'event', ledger.counted_event(p_shard, p_business_date, original, followers is not null));
end $$;

-- What counters of places were told of a message: of itself where its kind is an event, of what
-- it gave back where it is a void or a cancel. The words of posting.CountedEvent as JSON; null
-- where there is none, or where it is older than yesterday and no counter looks back so far.
--
-- What was given back of it is worked out as facts._given_back does of an account's history.
create or replace function ledger.counted_event(
    p_shard smallint, p_business_date date, p_message ledger.authorization, p_followed boolean
) returns jsonb
language plpgsql stable as $$
declare
    event ledger.authorization := p_message;
    given bigint := -1;
begin
    if p_message.kind in ('void', 'preauthorization_cancel') and p_message.original_id <> 0 then
        select q.* into event from ledger.authorization q
        where q.authorization_id = p_message.original_id and q.shard = p_shard
          and q.business_date between p_business_date - 1 and p_business_date + 1
        limit 1;
    end if;
    if event.authorization_id is null or event.business_date < p_business_date - 1
       or event.kind not in ('purchase', 'load', 'preauthorization', 'offline_sale', 'fare', 'tap_on',
                             'tap_off', 'inspect', 'offline_fare', 'bill_inquiry', 'bill') then
        return null;
    end if;
    if p_followed or event.authorization_id <> p_message.authorization_id then
        select coalesce(sum(v.approved_minor - u.minor)
                        filter (where v.approved_minor > u.minor or v.approved_minor = 0), -1)
        into given
        from ledger.authorization v
        cross join lateral (
            select coalesce(sum(w.approved_minor), 0)::bigint as minor
            from ledger.authorization w
            where w.original_id = v.authorization_id and w.original_id <> 0 and w.shard = p_shard
              and w.kind = 'reversal' and w.outcome = 'approved'
              and w.business_date between event.business_date - 1 and p_business_date + 1
        ) u
        where v.original_id = event.authorization_id and v.original_id <> 0 and v.shard = p_shard
          and v.kind in ('reversal', 'void', 'preauthorization_cancel') and v.outcome = 'approved'
          and v.business_date between event.business_date - 1 and p_business_date + 1;
    end if;
    return jsonb_build_object(
        'kind', event.kind, 'outcome', event.outcome, 'at_us', event.at_us,
        'card_id', event.card_id, 'acquirer', event.acquirer, 'terminal', event.terminal,
        'merchant', event.merchant, 'mcc', event.mcc, 'segment', event.segment,
        'amount_minor', event.amount_minor, 'approved_minor', event.approved_minor,
        'venue', event.venue, 'stop', event.stop, 'vehicle', event.vehicle, 'given_minor', given);
end $$;

-- The open holds of an account, oldest first and at most p_most: the words of posting.Hold as
-- JSON.
create or replace function ledger.open_holds(p_shard smallint, p_account_id bigint, p_most integer)
returns jsonb
language plpgsql stable as $$
begin
    return (
        select jsonb_agg(to_jsonb(e) order by e.opened_at_us, e.hold_id)
        from (
            select h.hold_id, h.authorization_id, h.purpose, h.purse, h.amount_minor,
                   h.opened_at_us, h.expires_at_us, h.acquirer, h.rrn, h.auth_code, h.terminal,
                   h.mcc
            from ledger.hold h
            where h.account_id = p_account_id and h.shard = p_shard and h.status = 'open'
            order by h.opened_at_us, h.hold_id
            limit p_most
        ) e
    );
end $$;
