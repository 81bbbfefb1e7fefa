-- The hotlist of readers: adding and taking off, and the check that it was heeded.

-- Puts every medium of these cards on the list, marks the cards, and gives their accounts
-- another version in the same transaction, so that a decision made before conflicts and is
-- made again. A row for each card that was not on it.
--
-- The accounts are locked first and in order, as post_batch does; added_us is read after that,
-- so whatever was posted later was decided with the mark in sight.
create or replace function ledger.hotlist_add(
    p_card_ids bigint[], p_reason text, p_author text, p_expires_at timestamptz)
returns table (added_card_id bigint)
language plpgsql as $$
declare
    now_us bigint;
begin
    perform 1 from ledger.account a
    where (a.shard, a.account_id) in (select m.shard, m.account_id from ledger.medium m
                                      where m.card_id = any (p_card_ids))
    order by a.account_id for update;
    now_us := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    return query
    with put as (
        insert into ledger.hotlist_entry
            (medium, shard, account_id, card_id, reason, author, added_us, expires_at)
        select m.medium, m.shard, m.account_id, m.card_id, p_reason, p_author, now_us, p_expires_at
        from ledger.medium m where m.card_id = any (p_card_ids) order by m.medium
        on conflict (medium) where removed_us is null do nothing
        returning shard, account_id, card_id
    ), marked as (
        update ledger.card c set hotlisted = true
        from (select distinct p.shard, p.card_id from put p) p
        where c.shard = p.shard and c.card_id = p.card_id
    ), raised as (
        update ledger.account a set version = a.version + 1
        from (select distinct p.shard, p.account_id from put p) p
        where a.shard = p.shard and a.account_id = p.account_id
    )
    select distinct p.card_id from put p;
end $$;

-- The opposite. A row for each card that was on it. The readers keep it until the next version.
create or replace function ledger.hotlist_remove(
    p_card_ids bigint[], p_reason text, p_author text)
returns table (removed_card_id bigint)
language plpgsql as $$
declare
    now_us bigint;
begin
    perform 1 from ledger.account a
    where (a.shard, a.account_id) in (select e.shard, e.account_id from ledger.hotlist_entry e
                                      where e.card_id = any (p_card_ids) and e.removed_us is null)
    order by a.account_id for update;
    now_us := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    return query
    with gone as (
        update ledger.hotlist_entry e
        set removed_us = greatest(now_us, e.added_us), removed_reason = p_reason,
            removed_by = p_author
        where e.card_id = any (p_card_ids) and e.removed_us is null
        returning e.shard, e.account_id, e.card_id
    ), unmarked as (
        update ledger.card c set hotlisted = false
        from (select distinct g.shard, g.card_id from gone g) g
        where c.shard = g.shard and c.card_id = g.card_id
    ), raised as (
        update ledger.account a set version = a.version + 1
        from (select distinct g.shard, g.account_id from gone g) g
        where a.shard = g.shard and a.account_id = g.account_id
    )
    select distinct g.card_id from gone g;
end $$;

-- Approved by the rules, which a stand-in sale, an uploaded record, a completion and a tap-off
-- of a journey under way are not: those have happened, and must be written.
create or replace function ledger.audit_hotlist(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when e.entry_id is not null then
               format('authorization %s on %s was approved while card %s was on the hotlist',
                      a.authorization_id, a.business_date, a.card_id) end
    from ledger.every_authorization a
    left join (
        -- the mediums of a card come and go together; its times on the list do not overlap
        select h.shard, h.card_id, h.added_us, h.removed_us, min(h.entry_id) as entry_id
        from ledger.hotlist_entry h group by 1, 2, 3, 4
    ) e on e.card_id = a.card_id and e.shard = a.shard and a.posted_at_us > e.added_us
       and (e.removed_us is null or a.posted_at_us < e.removed_us)
    where a.business_date >= p_since and a.outcome = 'approved' and a.card_id <> 0
      and octet_length(a.rule_results) > 0
$$;
comment on function ledger.audit_hotlist is
    'The rules approved nothing of a card while the card was on the hotlist.';

create or replace function ledger.audit_hotlist_marks(p_since date, p_caps jsonb)
returns setof text language sql stable as $$
    select case when coalesce(c.hotlisted, false) <> (e.card_id is not null) then
               format('card %s is %s on the hotlist, and its mark says otherwise',
                      coalesce(c.card_id, e.card_id),
                      case when e.card_id is null then 'not' else 'still' end) end
    from (select k.shard, k.card_id, k.hotlisted from ledger.card k where k.hotlisted) c
    full join (select distinct s.shard, s.card_id from ledger.hotlist_entry s
               where s.removed_us is null) e
        on e.shard = c.shard and e.card_id = c.card_id
$$;
comment on function ledger.audit_hotlist_marks is
    'A card is marked exactly while an entry of it stands on the hotlist.';
