-- The ledger: who holds what, every message and its decision, and the money that explains
-- every balance. Everything else in the switch may be lost; this may not.
--
-- Every row of a card's account carries `shard`, in every primary key and every unique
-- constraint, so that the same schema can be distributed by it; no foreign key and no
-- posting crosses shards. Reference tables (setting, chart, settlement_account, medium)
-- are small or immutable and are copied to each node.
--
-- Money is bigint minor units. Instants are bigint microseconds since 1970 in UTC, as the
-- deciding process read its clock; the readable views turn them into timestamptz.

create schema ledger;

-- Configuration that must never change under a ledger in use: shards, time zone, cut-off,
-- currency, and a fingerprint of the key that hashes card numbers.
create table ledger.setting (
    name  text primary key,
    value text not null
);

create table ledger.migration (
    version    integer primary key,
    name       text not null,
    applied_at timestamptz not null default now()
);

-- Chart of accounts (domain 3.3). `normal` is the side that makes it grow.
create table ledger.chart (
    code   text primary key,
    name   text not null,
    class  text not null check (class in ('asset', 'liability', 'income', 'control')),
    normal text not null check (normal in ('debit', 'credit'))
);

insert into ledger.chart (code, name, class, normal) values
    ('BANK', 'trust bank account', 'asset', 'debit'),
    ('AGENT', 'top-up agent receivable', 'asset', 'debit'),
    ('TAPDEBT', 'unpaid-tap receivable', 'asset', 'debit'),
    ('INTERCITY', 'inter-city receivable', 'asset', 'debit'),
    ('PURSE', 'purses of holders', 'liability', 'credit'),
    ('DEPOSIT', 'card deposits', 'liability', 'credit'),
    ('PENDING', 'pending loads', 'liability', 'credit'),
    ('ACQ', 'acquirer payable, unconfirmed', 'liability', 'credit'),
    ('ACQCONF', 'acquirer payable, confirmed', 'liability', 'credit'),
    ('TREASURY', 'department settlement', 'liability', 'credit'),
    ('FUND', 'programme funds prepaid by departments', 'liability', 'credit'),
    ('REFUNDPOOL', 'incomplete-transaction refunds pool', 'liability', 'credit'),
    ('UNCLAIMED', 'unclaimed value', 'liability', 'credit'),
    ('OFFSET', 'overpayment offset', 'liability', 'credit'),
    ('FEE', 'merchant and issue fees', 'income', 'credit'),
    ('SUSPENSE', 'suspense', 'control', 'credit'),
    ('ROUNDING', 'rounding', 'control', 'credit'),
    ('BANKDIFF', 'bank difference', 'control', 'credit');

-- One account of the operator's own books: a chart code and whose it is. Ids stay below
-- 1,000,000; purses have theirs from 16,000,000 (account_id * 16 + purse number).
create sequence ledger.settlement_account_id as bigint minvalue 1 maxvalue 999999;

create table ledger.settlement_account (
    settlement_account_id bigint primary key default nextval('ledger.settlement_account_id'),
    chart_code            text not null references ledger.chart (code),
    owner                 text not null,
    unique (chart_code, owner)
);

-- Directory: the keyed hash of a card number leads to its shard and account. Immutable: a
-- replacement card is a new medium for the same account.
create table ledger.medium (
    medium     bytea primary key check (octet_length(medium) = 16),
    shard      smallint not null,
    account_id bigint not null,
    card_id    bigint not null
);
create index medium_card on ledger.medium (card_id);

create sequence ledger.account_id as bigint start 1000000 minvalue 1000000;
create sequence ledger.card_id as bigint start 1000000 minvalue 1000000;

create table ledger.account (
    shard      smallint not null,
    account_id bigint not null,
    version    bigint not null default 0,
    status     text not null default 'active' check (status in ('active', 'frozen', 'closed')),
    tier       text not null check (tier in ('T0', 'T1', 'T2')),
    product    text not null default 'standard',
    primary key (shard, account_id)
) with (fillfactor = 60);

create table ledger.card (
    shard          smallint not null,
    card_id        bigint not null,
    account_id     bigint not null,
    status         text not null default 'active'
        check (status in ('active', 'blocked', 'lost', 'stolen', 'closed')),
    status_reason  text not null default '',
    last4          text not null,
    expires_yymm   text not null default '',
    issued_at      timestamptz not null default now(),
    primary key (shard, card_id)
) with (fillfactor = 70);
create index card_account on ledger.card (shard, account_id);

-- Purse numbers: 1 TRN, 2 GEN (domain 3.1). Balance and held change only together with
-- the transfers that explain them; the month totals are approved spending less what
-- reversals of the same month gave back. Day sums need no total: a day is history (24 h).
create table ledger.purse (
    shard         smallint not null,
    account_id    bigint not null,
    purse         smallint not null check (purse in (1, 2)),
    balance_minor bigint not null default 0,
    held_minor    bigint not null default 0 check (held_minor >= 0),
    floor_minor   bigint not null default 0 check (floor_minor <= 0),
    month         date not null default '-infinity',
    month_count   integer not null default 0,
    month_minor   bigint not null default 0,
    primary key (shard, account_id, purse),
    check (balance_minor - held_minor >= floor_minor)
) with (fillfactor = 50);

-- Money set aside for a preauthorization until it is completed, cancelled or expires.
create table ledger.hold (
    shard            smallint not null,
    hold_id          bigint not null,
    account_id       bigint not null,
    purse            smallint not null,
    amount_minor     bigint not null check (amount_minor > 0),
    status           text not null default 'open'
        check (status in ('open', 'completed', 'cancelled', 'expired')),
    authorization_id bigint not null,
    expires_at_us    bigint not null,
    primary key (shard, hold_id)
) with (fillfactor = 70);
create index hold_open on ledger.hold (shard, account_id) where status = 'open';

-- Ids of authorizations and transfers: one rising sequence, so their indexes grow at the
-- right edge only.
create sequence ledger.entry_id as bigint cache 64;

-- Every message and its decision, declines too. account_id 0: no such card.
create table ledger.authorization (
    business_date    date not null,
    shard            smallint not null,
    authorization_id bigint not null,
    account_id       bigint not null,
    card_id          bigint not null,
    at_us            bigint not null,
    posted_at_us     bigint not null,
    deadline_at_us   bigint not null,
    key              bytea not null check (octet_length(key) = 16),
    payload_hash     bytea not null,
    message_class    text not null,
    kind             text not null,
    segment          text not null,
    link             text not null,
    acquirer         text not null,
    terminal         text not null,
    merchant         text not null,
    mcc              text not null,
    entry_mode       text not null,
    stan             text not null,
    local_at         text not null,
    rrn              text not null,
    auth_code        text not null,
    currency         text not null,
    amount_minor     bigint not null,
    approved_minor   bigint not null,
    purse            smallint not null,
    outcome          text not null,
    original_id      bigint not null,
    ruleset          text not null,
    rule_results     bytea not null,
    explanation      text not null,
    primary key (authorization_id, shard, business_date),
    check ((outcome = 'approved') or (approved_minor = 0))
) partition by range (business_date);
-- No two indexes share a leading column: today's partition is empty when its plans are
-- made, and with nothing to choose from the planner cannot choose the wrong index.
create unique index authorization_key on ledger.authorization (key, shard, business_date);
create index authorization_account on ledger.authorization (account_id, shard, at_us);

-- Money: append-only, one debit and one credit of the same amount, so a journal sums to
-- zero by construction. Purses are liabilities: a debit makes them smaller.
create table ledger.transfer (
    business_date     date not null,
    shard             smallint not null,
    transfer_id       bigint not null,
    authorization_id  bigint not null,
    debit_account_id  bigint not null,
    credit_account_id bigint not null,
    amount_minor      bigint not null check (amount_minor > 0),
    currency          text not null,
    kind              text not null,
    primary key (transfer_id, shard, business_date),
    check (debit_account_id <> credit_account_id)
) partition by range (business_date);
create index transfer_authorization on ledger.transfer (authorization_id, shard);

-- Daily position of the operator's own accounts, added up once per batch. `slot` is the
-- posting process's number, so two processes never wait for each other's row.
create table ledger.position (
    shard                 smallint not null,
    business_date         date not null,
    settlement_account_id bigint not null,
    slot                  smallint not null,
    debit_minor           bigint not null default 0,
    credit_minor          bigint not null default 0,
    transfer_count        bigint not null default 0,
    primary key (shard, business_date, settlement_account_id, slot)
) with (fillfactor = 50);

-- The two append-only tables stay so, whoever is connected.
create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: the ledger is append-only, correct it with a new linked entry',
        tg_op, tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger authorization_append_only before update or delete on ledger.authorization
    for each row execute function ledger.refuse_change();
create trigger transfer_append_only before update or delete on ledger.transfer
    for each row execute function ledger.refuse_change();

-- For people.
create view ledger.readable_authorization as
select business_date, to_timestamp(at_us / 1000000.0) as decided_at, shard, authorization_id,
       account_id, card_id, acquirer, link, terminal, merchant, mcc, kind, outcome,
       amount_minor, approved_minor, currency, rrn, auth_code, ruleset, explanation
from ledger.authorization;

-- Days that are no longer written: detached from the two daily tables and attached here, so
-- that the hot path never plans over them and the audit still counts them.
create schema ledger_archive;

create table ledger_archive.authorization (like ledger.authorization including all)
    partition by range (business_date);
create table ledger_archive.transfer (like ledger.transfer including all)
    partition by range (business_date);

create trigger authorization_append_only before update or delete on ledger_archive.authorization
    for each row execute function ledger.refuse_change();
create trigger transfer_append_only before update or delete on ledger_archive.transfer
    for each row execute function ledger.refuse_change();

create view ledger.every_authorization as
select * from ledger.authorization union all select * from ledger_archive.authorization;
create view ledger.every_transfer as
select * from ledger.transfer union all select * from ledger_archive.transfer;
