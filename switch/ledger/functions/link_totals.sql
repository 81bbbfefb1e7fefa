-- What one link posted on one business day, for reconciliation (0500 of ISO 8583).
--
-- In the standard's sense a debit takes money from cards: purchases, completions, offline
-- sales and adjustments to more. Credits are refunds and adjustments to less. A void or
-- reversal counts as the reversal of what its original was, except that taking a void back
-- is the debit standing again. Loads and holds settle with nobody here.
--
-- An approval that came too late was answered 91 and given back by the switch itself: its
-- reversal has the class of the original, not 04. The acquirer knows of neither, so neither
-- counts. p_terminal empty is the whole link. Reads the attached days only: an archived day
-- is settled.
create or replace function ledger.link_totals(p_link text, p_terminal text, p_business_date date)
returns table (side text, entries bigint, amount_minor bigint)
language sql stable
as $$
    with entry as (
        select a.authorization_id, a.shard, a.kind, a.approved_minor, a.original_id,
               a.kind = 'reversal' and a.message_class <> '04' as own
        from ledger.authorization a
        where a.business_date = p_business_date
          and a.link = p_link
          and (p_terminal = '' or a.terminal = p_terminal)
          and a.outcome = 'approved'
          and a.approved_minor > 0
          and a.kind in ('purchase', 'completion', 'offline_sale', 'adjustment', 'refund',
                         'credit_adjustment', 'void', 'reversal')
    ),
    told as (
        select e.* from entry e
        where not e.own
          and not exists (
              select from entry o
              where o.own and o.original_id = e.authorization_id and o.shard = e.shard
          )
    ),
    sided as (
        select t.approved_minor,
               case
                   when t.kind in ('purchase', 'completion', 'offline_sale', 'adjustment')
                       then 'debit'
                   when t.kind in ('refund', 'credit_adjustment') then 'credit'
                   when original.kind in ('refund', 'credit_adjustment') then 'credit_reversal'
                   when original.kind = 'void' then 'debit'
                   when original.kind in ('purchase', 'completion', 'offline_sale', 'adjustment')
                       then 'debit_reversal'
               end as side
        from told t
        left join lateral (
            select o.kind from ledger.authorization o
            where t.kind in ('void', 'reversal')
              and o.authorization_id = t.original_id and o.shard = t.shard
            limit 1
        ) original on true
    )
    select s.side, count(*), sum(s.approved_minor)::bigint
    from sided s
    where s.side is not null
    group by s.side
$$;
