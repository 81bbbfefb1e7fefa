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
    -- What the keyed hash of an entered PIN must equal, empty where the card has none, and
    -- how many wrong ones came in a row.
    pin_reference  bytea not null default '' check (octet_length(pin_reference) in (0, 16)),
    pin_tries      smallint not null default 0 check (pin_tries >= 0),
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

-- Ids of authorizations and transfers: one rising sequence, so their indexes grow at the
-- right edge only.
create sequence ledger.entry_id as bigint cache 64;

-- Every message and its decision, declines too. account_id 0: no such card, or one of another
-- issuer. A row of kind tombstone stands under the key of a message that was reversed before
-- it came.
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
    -- What it added to its purse's month totals; below zero where it gave back.
    spent_count      integer not null default 0,
    spent_minor      bigint not null default 0,
    primary key (authorization_id, shard, business_date),
    check ((outcome = 'approved') or (approved_minor = 0))
) partition by range (business_date);
-- No two indexes share a leading column: today's partition is empty when its plans are
-- made, and with nothing to choose from the planner cannot choose the wrong index.
create unique index authorization_key on ledger.authorization (key, shard, business_date);
create index authorization_account on ledger.authorization (account_id, shard, at_us);
-- The messages about another one, and those of cards of other issuers, which have no account
-- to be found by. Neither index has an entry for a plain purchase.
create index authorization_original on ledger.authorization (original_id, shard)
    where original_id <> 0;
create index authorization_stranger on ledger.authorization (rrn, shard) where account_id = 0;
-- Without an account there is no version to check: a message is taken back once a day at most.
create unique index authorization_stranger_reversed
    on ledger.authorization (original_id, shard, business_date)
    where account_id = 0 and kind = 'reversal' and outcome = 'approved';

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

-- ---- working keys of links (0003) -------------------------------------------------------

-- MAC and PIN keys of links and upstreams, exchanged under the zone key of each. A row holds
-- a key wrapped under the storage key of the key store (TR-31), never in clear. An exchange
-- makes one row for each usage under one sequence, which rises over all links, so that a
-- worker sees by one number whether there is anything new.
create table ledger.link_key (
    sequence   integer not null check (sequence > 0),
    usage      text not null check (usage in ('mac', 'pin')),
    link       text not null,
    block      text not null,
    kcv        text not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (sequence, usage)
);
create index link_key_link on ledger.link_key (link, sequence);

create trigger link_key_append_only before update or delete on ledger.link_key
    for each row execute function ledger.refuse_change();

-- ---- cards of other issuers (0004) ------------------------------------------------------

-- Requests that went to the hosts of other issuers: written before they leave, so that one
-- whose answer never came, or was not used, is reversed whatever happens to its process
-- (switch/ledger/forwarding.py). The only table here that is not money: rows change state
-- and are deleted when nobody can ask for them any more. All instants are this server's, so
-- clocks of two machines never have to agree. `stan` and `transmitted_at` (DE11, DE7) are
-- what the host knows the request by; `request` is msgpack with the card number encrypted.
create sequence ledger.forward_stan as integer minvalue 1 maxvalue 999999 cycle;

create table ledger.forwarded (
    shard                   smallint not null,
    key                     bytea not null check (octet_length(key) = 16),
    upstream                text not null,
    payload_hash            bytea not null,
    stan                    text not null,
    transmitted_at          text not null,
    amount_minor            bigint not null,
    request                 bytea not null,
    state                   text not null
        check (state in ('sent', 'approved', 'declined', 'reversing', 'reversed', 'given_up')),
    created_at              timestamptz not null default now(),
    updated_at              timestamptz not null default now(),
    answer_by               timestamptz not null,
    reversing_since         timestamptz,
    tries                   integer not null default 0,
    next_try_at             timestamptz,
    reversal_stan           text not null default '',
    reversal_transmitted_at text not null default '',
    primary key (key, shard),
    check ((state = 'reversing') <= (reversing_since is not null and next_try_at is not null))
) with (fillfactor = 70);
create index forwarded_sent on ledger.forwarded (answer_by) where state = 'sent';
create index forwarded_reversing on ledger.forwarded (upstream, reversing_since)
    where state = 'reversing';
create index forwarded_ended on ledger.forwarded (updated_at)
    where state in ('approved', 'declined', 'reversed', 'given_up');
