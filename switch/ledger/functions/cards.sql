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
