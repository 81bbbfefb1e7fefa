-- Writes that an account has a right to a fare class, and gives it another version, so that a
-- decision made without it conflicts and is made again.
create or replace function ledger.grant_entitlement(
    p_shard smallint, p_account_id bigint, p_fare_class smallint, p_from_us bigint,
    p_until_us bigint, p_granted_by text
) returns bigint
language plpgsql as $$
declare
    granted bigint;
begin
    update ledger.account a set version = a.version + 1
    where a.shard = p_shard and a.account_id = p_account_id;
    insert into ledger.entitlement (shard, account_id, fare_class, from_us, until_us, granted_by)
    values (p_shard, p_account_id, p_fare_class, p_from_us, p_until_us, p_granted_by)
    returning entitlement_id into granted;
    return granted;
end $$;

-- Ends an account's rights to a fare class at an instant; what was ridden before keeps them. The
-- rights that it ended come back.
create or replace function ledger.revoke_entitlements(
    p_shard smallint, p_account_id bigint, p_fare_class smallint, p_at_us bigint, p_revoked_by text
) returns table (entitlement_id bigint)
language plpgsql as $$
begin
    update ledger.account a set version = a.version + 1
    where a.shard = p_shard and a.account_id = p_account_id;
    return query
    update ledger.entitlement e set revoked_at_us = p_at_us, revoked_by = p_revoked_by
    where e.account_id = p_account_id and e.shard = p_shard and e.fare_class = p_fare_class
      and e.until_us > p_at_us and e.revoked_at_us is null
    returning e.entitlement_id;
end $$;

-- Gives a card another status, and its account another version in the same transaction, so
-- that a decision made on the old status conflicts and is made again.
--
-- The account is locked first, as post_batch does. No row comes back for an unknown card. A
-- closed card stays closed (issue a new medium instead): that raises check_violation.
create or replace function ledger.set_card_status(p_card_id bigint, p_status text, p_reason text)
returns table (previous_status text)
language plpgsql as $$
declare
    owner    ledger.medium;
    previous text;
begin
    select k.* into owner from ledger.medium k where k.card_id = p_card_id limit 1;
    if not found then
        return;
    end if;
    update ledger.account a set version = a.version + 1
    where a.shard = owner.shard and a.account_id = owner.account_id;
    select c.status into previous from ledger.card c
    where c.shard = owner.shard and c.card_id = p_card_id for update;
    if previous = 'closed' and p_status <> 'closed' then
        raise exception 'a closed card stays closed; issue a new one instead'
            using errcode = 'check_violation';
    end if;
    update ledger.card c set status = p_status, status_reason = p_reason
    where c.shard = owner.shard and c.card_id = p_card_id;
    return query select previous;
end $$;
