-- The whole life of an authorization: holds that open and resolve, what each message spent,
-- tombstones, and the reference that a PIN is compared with.

-- What each message added to its purse's month totals. Messages from before this migration
-- get what the totals were made of then: purchases, less their reversals of the same month.
alter table ledger.authorization
    add column spent_count integer not null default 0,
    add column spent_minor bigint not null default 0;
alter table ledger_archive.authorization
    add column spent_count integer not null default 0,
    add column spent_minor bigint not null default 0;

-- A day whose detaching was interrupted belongs to neither table, and must fit the archive.
do $$
declare
    loose regclass;
begin
    for loose in
        select c.oid::regclass from pg_class c
        where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'r'
          and c.relname ~ '^authorization_[0-9]{8}$' and not c.relispartition
    loop
        execute format('alter table %s add column spent_count integer not null default 0, '
                       'add column spent_minor bigint not null default 0', loose);
    end loop;
end $$;

create or replace view ledger.every_authorization as
select * from ledger.authorization union all select * from ledger_archive.authorization;

alter table ledger.authorization disable trigger authorization_append_only;
alter table ledger_archive.authorization disable trigger authorization_append_only;
create temporary table spent on commit drop as
select a.business_date, a.shard, a.authorization_id,
       case a.kind when 'purchase' then 1 else 0 end as spent_count,
       case a.kind when 'purchase' then a.approved_minor else -a.approved_minor end as spent_minor
from ledger.every_authorization a
left join ledger.every_authorization o on o.authorization_id = a.original_id and o.shard = a.shard
where a.outcome = 'approved'
  and (a.kind = 'purchase'
       or a.kind = 'reversal' and o.kind = 'purchase'
          and date_trunc('month', o.business_date) = date_trunc('month', a.business_date));
update ledger.authorization a set spent_count = s.spent_count, spent_minor = s.spent_minor
from spent s
where a.authorization_id = s.authorization_id and a.shard = s.shard and a.business_date = s.business_date;
update ledger_archive.authorization a set spent_count = s.spent_count, spent_minor = s.spent_minor
from spent s
where a.authorization_id = s.authorization_id and a.shard = s.shard and a.business_date = s.business_date;
alter table ledger.authorization enable trigger authorization_append_only;
alter table ledger_archive.authorization enable trigger authorization_append_only;

-- The messages about another one, and those of cards of other issuers, which have no account
-- to be found by. Neither index has an entry for a plain purchase.
create index authorization_original on ledger.authorization (original_id, shard)
    where original_id <> 0;
create index authorization_stranger on ledger.authorization (rrn, shard) where account_id = 0;
-- Without an account there is no version to check: a message is taken back once a day at most.
create unique index authorization_stranger_reversed
    on ledger.authorization (original_id, shard, business_date)
    where account_id = 0 and kind = 'reversal' and outcome = 'approved';
create index on ledger_archive.authorization (original_id, shard) where original_id <> 0;
create index on ledger_archive.authorization (rrn, shard) where account_id = 0;
create unique index on ledger_archive.authorization (original_id, shard, business_date)
    where account_id = 0 and kind = 'reversal' and outcome = 'approved';

-- Holds were not in use before.
drop table ledger.hold;

-- Money set aside by a preauthorization, or taken by an agent for a load that is not yet
-- confirmed; only the former counts in its purse's held money. The hold has the id of the
-- message that opened it. authorization_id is the preauthorization or pending load that it
-- stands for: another than its own where a reversed completion opened it again. From open it
-- resolves exactly once; resolved_by is the message that did it, 0 while it is open.
create table ledger.hold (
    shard            smallint not null,
    hold_id          bigint not null,
    account_id       bigint not null,
    card_id          bigint not null,
    purse            smallint not null check (purse in (1, 2)),
    purpose          text not null check (purpose in ('preauthorization', 'load')),
    amount_minor     bigint not null check (amount_minor > 0),
    status           text not null default 'open'
        check (status in ('open', 'completed', 'cancelled', 'expired')),
    authorization_id bigint not null,
    opened_at_us     bigint not null,
    expires_at_us    bigint not null,
    resolved_by      bigint not null default 0,
    resolved_at_us   bigint not null default 0,
    segment          text not null,
    acquirer         text not null,
    link             text not null,
    terminal         text not null,
    merchant         text not null,
    mcc              text not null,
    rrn              text not null,
    auth_code        text not null,
    currency         text not null,
    primary key (hold_id, shard),
    check ((status = 'open') = (resolved_by = 0))
) with (fillfactor = 70);
-- One open hold for one authorization, whoever opens it.
create unique index hold_open on ledger.hold (account_id, shard, authorization_id)
    where status = 'open';
create index hold_due on ledger.hold (expires_at_us) where status = 'open';
create index hold_resolved on ledger.hold (resolved_by, shard) where resolved_by <> 0;

-- What the keyed hash of an entered PIN must equal, empty where the card has none, and how
-- many wrong ones came in a row.
alter table ledger.card
    add column pin_reference bytea not null default '',
    add column pin_tries smallint not null default 0,
    add constraint card_pin_reference_check check (octet_length(pin_reference) in (0, 16)),
    add constraint card_pin_tries_check check (pin_tries >= 0);
