-- Tells every worker that there is something new to know about rules, and returns its number.
-- Whoever changes something calls it last in the same transaction: the one row of rules_head is
-- locked from then on, so revisions are committed in their order, and nobody is woken before
-- there is something to see.
create or replace function ledger.rules_changed() returns bigint
language plpgsql as $$
declare
    risen bigint;
begin
    update ledger.rules_head set revision = revision + 1 returning revision into risen;
    perform pg_notify('citycard_rules', risen::text);
    return risen;
end $$;
