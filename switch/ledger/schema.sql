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
    -- Whether the card is on the hotlist of readers.
    hotlisted      boolean not null default false,
    primary key (shard, card_id)
) with (fillfactor = 70);
create index card_account on ledger.card (shard, account_id);

-- Purse numbers: 1 TRN, 2 GEN, 3 CHIP, the shadow of the purse on the chip (domain 3.1, 3.2).
-- Balance and held change only together with the transfers that explain them; the totals of a
-- month, a week (from Monday) and the whole life are approved spending less what reversals gave
-- back, in the periods of what was reversed. Day sums need no total: a day is history (24 h).
create table ledger.purse (
    shard         smallint not null,
    account_id    bigint not null,
    purse         smallint not null check (purse in (1, 2, 3)),
    balance_minor bigint not null default 0,
    held_minor    bigint not null default 0 check (held_minor >= 0),
    floor_minor   bigint not null default 0 check (floor_minor <= 0),
    month         date not null default '-infinity',
    month_count   integer not null default 0,
    month_minor   bigint not null default 0,
    week          date not null default '-infinity',
    week_count    integer not null default 0,
    week_minor    bigint not null default 0,
    lifetime_count bigint not null default 0,
    lifetime_minor bigint not null default 0,
    primary key (shard, account_id, purse),
    check (balance_minor - held_minor >= floor_minor)
) with (fillfactor = 50);

-- Money set aside by a preauthorization or for a journey (its maximum fare), or taken by an
-- agent for a load that is not yet confirmed; all but the last count in their purse's held
-- money. The hold has the id of the message that opened it. authorization_id is the
-- preauthorization, tap-on or pending load that it stands for: another than its own where a
-- reversed completion or tap-off opened it again. From open it resolves exactly once;
-- resolved_by is the message that did it, 0 while it is open.
create table ledger.hold (
    shard            smallint not null,
    hold_id          bigint not null,
    account_id       bigint not null,
    card_id          bigint not null,
    purse            smallint not null check (purse in (1, 2, 3)),
    purpose          text not null
        check (purpose in ('preauthorization', 'load', 'journey')),
    amount_minor     bigint not null check (amount_minor >= 0),
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
    -- Of the message that opened it, so that what the switch makes of its end says where it was.
    venue            text not null default '',
    primary key (hold_id, shard),
    check ((status = 'open') = (resolved_by = 0)),
    -- A ride may be free for whom it is.
    constraint hold_has_amount check (amount_minor > 0 or purpose = 'journey')
) with (fillfactor = 70);
-- One open hold for one authorization, whoever opens it.
create unique index hold_open on ledger.hold (account_id, shard, authorization_id)
    where status = 'open';
create index hold_due on ledger.hold (expires_at_us) where status = 'open';
create index hold_resolved on ledger.hold (resolved_by, shard) where resolved_by <> 0;
-- A journey that nobody ended may be ended late: its other tap corrects what was charged.
create index hold_journey_expired on ledger.hold (account_id, shard, expires_at_us)
    where status = 'expired' and purpose = 'journey';

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
    -- What it added to its purse's totals; below zero where it gave back.
    spent_count      integer not null default 0,
    spent_minor      bigint not null default 0,
    -- Where it was made: the venue's code, and for a tap its line and stop ("line/stop") and
    -- its vehicle.
    venue            text not null default '',
    stop             text not null default '',
    vehicle          text not null default '',
    -- The business day whose week and month it counts in, where that is not its own.
    spent_on         date,
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
       amount_minor, approved_minor, currency, rrn, auth_code, ruleset, explanation,
       venue, stop, vehicle
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

-- ---- taps, the purse on the chip, rights to fare classes (0005) -----------------------

-- Taps that were priced: what happened and what it cost, as nominal plus adjustments. The day
-- that fares are capped and recomputed by is fare_date, the service day of the event; the row
-- stands in the day on which it was posted, with its authorization, so a tap that comes late is
-- in no day that may be put away already. charged_minor is below zero where a late tap made its
-- day cheaper. journey_id is the tap-on that a tap-off or an incomplete fare settles, else 0.
create table ledger.tap (
    business_date    date not null,
    shard            smallint not null,
    authorization_id bigint not null,
    account_id       bigint not null,
    card_id          bigint not null,
    fare_date        date not null,
    kind             text not null check (kind in ('fare', 'tap_on', 'tap_off', 'incomplete_fare')),
    event_at_us      bigint not null,
    mode             text not null,
    line             text not null,
    stop             text not null,
    vehicle          text not null,
    acquirer         text not null,
    fare_class       smallint not null,
    fare_version     integer not null,
    nominal_minor    bigint not null check (nominal_minor >= 0),
    concession_minor bigint not null check (concession_minor <= 0),
    transfer_minor   bigint not null check (transfer_minor <= 0),
    cap_minor        bigint not null check (cap_minor <= 0),
    recomputed_minor bigint not null,
    charged_minor    bigint not null,
    journey_id       bigint not null,
    primary key (authorization_id, shard, business_date),
    check (charged_minor = nominal_minor + concession_minor + transfer_minor + cap_minor
                           + recomputed_minor)
) partition by range (business_date);
create index tap_account on ledger.tap (account_id, shard, fare_date);
create table ledger_archive.tap (like ledger.tap including all) partition by range (business_date);

create trigger tap_append_only before update or delete on ledger.tap
    for each row execute function ledger.refuse_change();
create trigger tap_append_only before update or delete on ledger_archive.tap
    for each row execute function ledger.refuse_change();

create view ledger.every_tap as
select * from ledger.tap union all select * from ledger_archive.tap;

-- Rights of an account to a fare class: a number of the fare tables, never why. A right is
-- judged at the instant of the tap, so one that is withdrawn ends then and stays true before.
create sequence ledger.entitlement_id as bigint;

create table ledger.entitlement (
    shard          smallint not null,
    account_id     bigint not null,
    entitlement_id bigint not null default nextval('ledger.entitlement_id'),
    fare_class     smallint not null check (fare_class > 0),
    from_us        bigint not null,
    until_us       bigint not null,
    granted_at     timestamptz not null default now(),
    granted_by     text not null,
    revoked_at_us  bigint,
    revoked_by     text not null default '',
    primary key (account_id, shard, entitlement_id),
    check (from_us < until_us)
);

-- What is known of the purse on a card's chip (domain 3.2): the highest counter that came, -1
-- before the first, the counters below it that have not come, and what the chip said at its last
-- load: what it had spent up to that counter which had not come, and the message that says so.
create table ledger.chip (
    shard                smallint not null,
    card_id              bigint not null,
    highest              integer not null default -1 check (highest between -1 and 65535),
    missing              int4multirange not null default '{}',
    proven_counter       integer not null default -1,
    proven_missing_minor bigint not null default 0 check (proven_missing_minor >= 0),
    proven_by            bigint not null default 0,
    primary key (card_id, shard)
) with (fillfactor = 70);

-- Records of chips, each counter of a card once and for good. `digest` is of all that the record
-- says, `batch` the upload it came in first; one in suspense moved no purse. `proven_by` is the
-- proof that the chip had given by then, so that what came after a proof can be added up.
create table ledger.chip_record (
    shard            smallint not null,
    card_id          bigint not null,
    counter          integer not null check (counter between 0 and 65535),
    digest           bytea not null check (octet_length(digest) = 8),
    batch            bytea not null check (octet_length(batch) = 8),
    authorization_id bigint not null,
    business_date    date not null,
    amount_minor     bigint not null,
    suspense         boolean not null,
    proven_by        bigint not null,
    primary key (card_id, shard, counter)
);

create trigger chip_record_append_only before update or delete on ledger.chip_record
    for each row execute function ledger.refuse_change();

-- Further records under a counter that is taken: clones or replays, each in suspense, once.
create table ledger.chip_other_record (
    shard            smallint not null,
    card_id          bigint not null,
    counter          integer not null,
    digest           bytea not null check (octet_length(digest) = 8),
    batch            bytea not null check (octet_length(batch) = 8),
    authorization_id bigint not null,
    business_date    date not null,
    amount_minor     bigint not null,
    primary key (card_id, shard, counter, digest)
);

create trigger chip_other_record_append_only before update or delete on ledger.chip_other_record
    for each row execute function ledger.refuse_change();

-- ---- the hotlist of readers (0008) --------------------------------------------------------

-- The hotlist of readers: who is on it, its versions as readers download them, and what each
-- acquirer's readers have.

-- An entry stands from added_us (this server's clock, epoch microseconds) until removed_us.
-- The versions are the first that has it and the first that has it no more, null until they
-- are published. Entries are never deleted: each version can be made again from them.
create table ledger.hotlist_entry (
    entry_id        bigint generated always as identity primary key,
    medium          bytea not null check (octet_length(medium) = 16),
    shard           smallint not null,
    account_id      bigint not null,
    card_id         bigint not null,
    reason          text not null check (reason <> ''),
    author          text not null check (author <> ''),
    added_us        bigint not null,
    expires_at      timestamptz,
    removed_us      bigint,
    removed_reason  text not null default '',
    removed_by      text not null default '',
    added_version   integer check (added_version > 0),
    removed_version integer,
    check (removed_us >= added_us),
    check (removed_version is null or removed_us is not null and removed_version > added_version)
);
create unique index hotlist_entry_standing on ledger.hotlist_entry (medium)
    where removed_us is null;
create index hotlist_entry_card on ledger.hotlist_entry (card_id, shard);

-- A published version: how many entries, how many came and went since the one before, and the
-- SHA-256 of the whole list's bytes.
create table ledger.hotlist_version (
    version      integer primary key check (version > 0),
    published_at timestamptz not null default clock_timestamp(),
    author       text not null,
    entries      integer not null check (entries >= 0),
    added        integer not null check (added >= 0),
    removed      integer not null check (removed >= 0),
    digest       bytea not null check (octet_length(digest) = 32)
);
create trigger hotlist_version_append_only before update or delete on ledger.hotlist_version
    for each row execute function ledger.refuse_change();

-- The bytes that were proven before publishing, and that readers get: whole (from_version 0)
-- and as the change from an earlier version. Those of old versions are deleted; they can be
-- made again.
create table ledger.hotlist_octets (
    version      integer not null references ledger.hotlist_version (version),
    from_version integer not null check (from_version >= 0 and from_version < version),
    octets       bytea not null,
    primary key (version, from_version)
);
alter table ledger.hotlist_octets alter column octets set storage external;

-- Which versions an acquirer's readers have, proven by the digest.
create table ledger.hotlist_acknowledged (
    acquirer        text not null,
    version         integer not null references ledger.hotlist_version (version),
    digest          bytea not null check (octet_length(digest) = 32),
    acknowledged_at timestamptz not null default clock_timestamp(),
    primary key (acquirer, version)
);
create trigger hotlist_acknowledged_append_only
    before update or delete on ledger.hotlist_acknowledged
    for each row execute function ledger.refuse_change();

-- ---- the HTTP API: keys and bill payments (0006) --------------------------------------------

-- Keys of the HTTP API: only a hash is kept, of a random key that nobody could guess, so a
-- plain SHA-256 is as strong as the key. `key_id` stands in front of the key and finds its row.
create table ledger.api_key (
    key_id       text primary key check (key_id ~ '^[0-9a-f]{12}$'),
    acquirer     text not null check (acquirer ~ '^[0-9]{1,11}$'),
    name         text not null,
    key_hash     bytea not null check (octet_length(key_hash) = 32),
    created_at   timestamptz not null default clock_timestamp(),
    last_used_on date,
    revoked_at   timestamptz
);

-- What a biller answered about a bill, held to until `payable_until`; deleted a day later.
create table ledger.bill_inquiry (
    inquiry_id    bytea primary key check (octet_length(inquiry_id) = 16),
    acquirer      text not null,
    biller        text not null,
    bill_no       text not null,
    amount_minor  bigint not null check (amount_minor >= 0),
    payable       boolean not null,
    payable_until timestamptz not null
);
create index bill_inquiry_ended on ledger.bill_inquiry (payable_until);

-- Payments of bills and where each stands (switch/ledger/bills.py has the table of states).
-- The money is in authorization and transfer; a row here says which of them are due, so that
-- whoever comes after a crash can go on. `serial` is what the biller knows the payment by.
create table ledger.bill_payment (
    serial           bytea primary key check (octet_length(serial) = 16),
    acquirer         text not null,
    api              text not null,
    idempotency_hash bytea not null check (octet_length(idempotency_hash) = 16),
    content_hash     bytea not null check (octet_length(content_hash) = 16),
    biller           text not null,
    bill_no          text not null,
    once             boolean not null,
    medium           bytea not null check (octet_length(medium) = 16),
    amount_minor     bigint not null check (amount_minor > 0),
    currency         text not null,
    state            text not null
        check (state in ('opened', 'held', 'confirming', 'in_doubt', 'paid', 'releasing',
                         'released', 'refused', 'reversing', 'reversed', 'suspense')),
    reason           text not null default '',
    hold_id          bigint not null default 0,
    auth_code        text not null default '',
    rrn              text not null default '',
    completion_id    bigint not null default 0,
    receipt          text not null default '',
    tries            integer not null default 0,
    opened_at        timestamptz not null default clock_timestamp(),
    state_at         timestamptz not null default clock_timestamp(),
    next_at          timestamptz not null,
    cut_at           timestamptz not null
) with (fillfactor = 70);
create unique index bill_payment_idempotency
    on ledger.bill_payment (acquirer, idempotency_hash);
-- The lock of a bill: one payment of it at a time, and a bill that is paid once, once.
create unique index bill_payment_lock on ledger.bill_payment (biller, bill_no)
    where state in ('opened', 'held', 'confirming', 'in_doubt', 'releasing', 'reversing', 'suspense')
       or state = 'paid' and once;
create index bill_payment_due on ledger.bill_payment (next_at)
    where state in ('opened', 'held', 'confirming', 'in_doubt', 'releasing', 'reversing', 'suspense');

-- Every change of state, for good.
create table ledger.bill_event (
    serial   bytea not null references ledger.bill_payment (serial),
    event_id bigint generated always as identity,
    state    text not null,
    reason   text not null,
    at       timestamptz not null default clock_timestamp(),
    primary key (serial, event_id)
);
create trigger bill_event_append_only before update or delete on ledger.bill_event
    for each row execute function ledger.refuse_change();

-- Debit files and mandates (switch/net/debits, switch/ledger/debits.py).

-- Which card pays for a customer of a biller. One stands for a customer; the others are the
-- record of what once did. An `amount_max_minor` of 0 bounds nothing.
create table ledger.mandate (
    mandate_id       bigint generated always as identity primary key,
    biller           text not null,
    customer         text not null,
    card_id          bigint not null,
    amount_max_minor bigint not null default 0 check (amount_max_minor >= 0),
    given_at         timestamptz not null default clock_timestamp(),
    ended_at         timestamptz
);
create unique index mandate_standing on ledger.mandate (biller, customer) where ended_at is null;

-- A file as it comes in and is worked off (switch/ledger/debits.py has the table of states).
-- `local_at` (MMDDhhmmss) begins the keys of its rows. `taken_through` is the last row that
-- may have reached the ledger; it is committed before the first of them leaves.
create table ledger.debit_file (
    file_number     bigint generated always as identity primary key,
    biller          text not null,
    name            text not null,
    state           text not null default 'arriving' check (
        state in ('arriving', 'dropped', 'accepted', 'running', 'cancelling', 'done', 'cancelled')
    ),
    local_at        text not null check (local_at ~ '^[0-9]{10}$'),
    touched_at      timestamptz not null default clock_timestamp(),
    row_count       integer not null check (row_count > 0),
    total_minor     bigint not null check (total_minor > 0),
    sha256          bytea not null default '' check (octet_length(sha256) in (0, 32)),
    taken_through   integer not null default 0,
    answered_count  integer not null default 0,
    collected_count integer not null default 0,
    collected_minor bigint not null default 0,
    accepted_at     timestamptz,
    ended_at        timestamptz,
    check (taken_through between 0 and row_count and answered_count between 0 and row_count),
    check (collected_count <= answered_count and collected_minor <= total_minor)
);
create unique index debit_file_name on ledger.debit_file (biller, name)
    where state not in ('arriving', 'dropped');
create index debit_file_open on ledger.debit_file (accepted_at)
    where state in ('arriving', 'dropped', 'accepted', 'running', 'cancelling');

create table ledger.debit_row (
    file_number  bigint not null,
    row_number   integer not null,
    amount_minor bigint not null check (amount_minor > 0),
    due_on       date not null,
    serial       text not null,
    customer     text not null,
    sub_channel  text not null,
    type         text not null,
    primary key (file_number, row_number)
);
-- A serial of a day is collected once, whatever file it stands in.
create index debit_row_serial on ledger.debit_row (serial, due_on);

create table ledger.debit_result (
    file_number      bigint not null,
    row_number       integer not null,
    collected_minor  bigint not null,
    authorization_id bigint not null,
    result           text not null,
    primary key (file_number, row_number),
    check ((result = 'approved') = (collected_minor > 0))
);

-- ---- rulesets, lists and counters of places (0009) --------------------------------------------

-- People who work with rules. A token is shown once; the ledger keeps SHA-256 of it.
create table ledger.operator (
    name       text primary key check (name ~ '^[a-z][a-z0-9._-]{1,39}$'),
    roles      text[] not null
        check (roles <@ array['viewer', 'analyst', 'author', 'approver', 'auditor']
               and cardinality(roles) > 0),
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null check (created_by <> ''),
    revoked_at timestamptz
);

-- States of a ruleset and who may move it from one to another: `role` is any one of these.
create table ledger.ruleset_move (
    act        text not null,
    from_state text not null,
    to_state   text not null,
    roles      text[] not null,
    primary key (act, from_state)
);
insert into ledger.ruleset_move (act, from_state, to_state, roles) values
    ('shadow', 'draft', 'shadow', '{author,analyst}'),
    ('withdraw', 'shadow', 'draft', '{author,analyst}'),
    ('submit', 'draft', 'submitted', '{author}'),
    ('submit', 'shadow', 'submitted', '{author}'),
    ('withdraw', 'submitted', 'draft', '{author}'),
    ('approve', 'submitted', 'approved', '{approver}'),
    ('reject', 'submitted', 'draft', '{approver}'),
    ('reject', 'approved', 'draft', '{approver}'),
    ('canary', 'approved', 'canary', '{approver}'),
    ('canary', 'canary', 'canary', '{approver}'),
    ('promote', 'approved', 'live', '{approver}'),
    ('promote', 'canary', 'live', '{approver}'),
    ('retire', 'live', 'retired', '{approver}'),
    ('rollback', 'retired', 'live', '{approver}'),
    ('pause', 'draft', 'paused', '{author,analyst,approver}'),
    ('pause', 'shadow', 'paused', '{author,analyst,approver}'),
    ('pause', 'submitted', 'paused', '{author,analyst,approver}'),
    ('pause', 'approved', 'paused', '{author,analyst,approver}'),
    ('pause', 'canary', 'paused', '{author,analyst,approver}'),
    ('pause', 'live', 'paused', '{author,analyst,approver}'),
    ('resume', 'paused', 'draft', '{author,analyst,approver}'),
    ('rollback', 'paused', 'live', '{approver}');

-- One ruleset, named by the BLAKE2b-256 of its canonical bytes. Only its state changes.
-- `forecast` is what share of requests each rule was to decline (rule id → parts per million)
-- when it was promoted. `was_live` tells that it may be rolled back to.
create table ledger.ruleset (
    hash           text primary key check (hash ~ '^[0-9a-f]{64}$'),
    canonical      bytea not null,
    source         text not null,
    title          text not null,
    parent         text references ledger.ruleset,
    state          text not null default 'draft'
        check (state in ('draft', 'shadow', 'submitted', 'approved', 'canary', 'live', 'retired',
                         'paused')),
    canary_percent smallint check (canary_percent between 1 and 99),
    forecast       jsonb not null default '{}',
    was_live       boolean not null default false,
    created_at     timestamptz not null default clock_timestamp(),
    check ((state = 'canary') = (canary_percent is not null))
);
create unique index ruleset_one_live on ledger.ruleset (state) where state = 'live';
create unique index ruleset_one_canary on ledger.ruleset (state) where state = 'canary';

-- Who wrote it: its own author, and those of its ancestors since the last approved one.
create table ledger.ruleset_author (
    hash   text not null references ledger.ruleset,
    author text not null,
    primary key (hash, author)
);

-- An approval binds to the hash. That the approver is no author is checked by a trigger, since
-- there may be several authors, and by the application.
create table ledger.ruleset_approval (
    approval_id bigint generated always as identity primary key,
    hash        text not null references ledger.ruleset,
    approver    text not null,
    reason      text not null,
    approved_at timestamptz not null default clock_timestamp()
);
create index ruleset_approval_hash on ledger.ruleset_approval (hash);

create function ledger.refuse_own_approval() returns trigger language plpgsql as $$
begin
    -- whoever becomes an author at the same time waits here, or is seen
    perform 1 from ledger.ruleset r where r.hash = new.hash for no key update;
    if exists (select 1 from ledger.ruleset_author a
               where a.hash = new.hash and a.author = new.approver) then
        raise exception '% wrote ruleset % and cannot approve it; ask another approver',
            new.approver, left(new.hash, 8) using errcode = 'restrict_violation';
    end if;
    if not exists (select 1 from ledger.ruleset_author a where a.hash = new.hash) then
        raise exception 'nobody wrote ruleset %, so nobody can approve it', left(new.hash, 8)
            using errcode = 'restrict_violation';
    end if;
    -- one that says it is of later would be good for a later move too
    new.approved_at := clock_timestamp();
    return new;
end $$;
create trigger ruleset_approval_four_eyes before insert on ledger.ruleset_approval
    for each row execute function ledger.refuse_own_approval();

create function ledger.refuse_approver_as_author() returns trigger language plpgsql as $$
begin
    perform 1 from ledger.ruleset r where r.hash = new.hash for no key update;
    if exists (select 1 from ledger.ruleset_approval a
               where a.hash = new.hash and a.approver = new.author) then
        raise exception '% approved ruleset % and cannot be its author', new.author,
            left(new.hash, 8) using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger ruleset_author_four_eyes before insert on ledger.ruleset_author
    for each row execute function ledger.refuse_approver_as_author();
create trigger ruleset_approval_append_only before update or delete on ledger.ruleset_approval
    for each row execute function ledger.refuse_change();
create trigger ruleset_author_append_only before update or delete on ledger.ruleset_author
    for each row execute function ledger.refuse_change();

create function ledger.refuse_other_text() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or (new.hash, new.canonical, new.source, new.title, new.parent,
                            new.created_at)
       is distinct from (old.hash, old.canonical, old.source, old.title, old.parent,
                         old.created_at) then
        raise exception 'a ruleset never changes; write a new one that has this one as its parent'
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger ruleset_immutable before update or delete on ledger.ruleset
    for each row execute function ledger.refuse_other_text();

-- A ruleset moves as the table of moves says and in no other way: it becomes approved in the
-- transaction that writes the approval, and comes back only if it was live before. What is put
-- in as live at once is the first ruleset of a ledger, and nothing else.
create function ledger.refuse_other_move() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if (new.state <> 'draft' or new.was_live) and exists (select 1 from ledger.ruleset) then
            raise exception 'a ruleset begins as a draft; submit it and have it approved'
                using errcode = 'restrict_violation';
        end if;
        return new;
    end if;
    if new.was_live <> old.was_live and not (new.was_live and new.state = 'live') then
        raise exception 'ruleset % was live when it was promoted, and at no other time',
            left(new.hash, 8) using errcode = 'restrict_violation';
    end if;
    if new.state = old.state then
        return new;
    end if;
    if not exists (select 1 from ledger.ruleset_move m
                   where m.from_state = old.state and m.to_state = new.state) then
        raise exception 'a ruleset does not move from % to %; see ledger.ruleset_move',
            old.state, new.state using errcode = 'restrict_violation';
    end if;
    if new.state = 'approved'
       and not exists (select 1 from ledger.ruleset_approval a
                       where a.hash = new.hash and a.approved_at >= transaction_timestamp()) then
        raise exception 'ruleset % was not approved by anybody in this transaction',
            left(new.hash, 8) using errcode = 'restrict_violation';
    end if;
    if new.state = 'live' and old.state in ('retired', 'paused') and not old.was_live then
        raise exception 'ruleset % was never live; have it approved and promote it',
            left(new.hash, 8) using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger ruleset_moves before insert or update on ledger.ruleset
    for each row execute function ledger.refuse_other_move();

-- The audit trail of everything that people, and the switch by itself, did about rules: `subject`
-- is a ruleset's hash, "rule ID", "list NAME", "operator NAME" and so on. Append-only.
create table ledger.rules_event (
    event_id   bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    actor      text not null check (actor <> ''),
    act        text not null,
    subject    text not null,
    from_state text not null default '',
    to_state   text not null default '',
    reason     text not null default '',
    detail     jsonb not null default '{}',
    revision   bigint not null
);
create index rules_event_subject on ledger.rules_event (subject, event_id);
create index rules_event_revision on ledger.rules_event (revision);
create trigger rules_event_append_only before update or delete on ledger.rules_event
    for each row execute function ledger.refuse_change();

-- What every worker follows: one row, whose revision rises with each change that workers must
-- know of. Whoever makes one bumps it in the same transaction by ledger.rules_changed(), which
-- also wakes the workers (channel citycard_rules).
create table ledger.rules_head (
    only_row boolean primary key default true check (only_row),
    revision bigint not null default 0
);
insert into ledger.rules_head default values;

-- Rules that do nothing for now: of whatever ruleset they are in, while their version is this.
create table ledger.rule_pause (
    pause_id     bigint generated always as identity primary key,
    rule_id      text not null,
    rule_version integer not null,
    paused_at    timestamptz not null default clock_timestamp(),
    paused_by    text not null check (paused_by <> ''),
    reason       text not null check (reason <> ''),
    automatic    boolean not null default false,
    lifted_at    timestamptz,
    lifted_by    text not null default '',
    lifted_reason text not null default ''
);
create unique index rule_pause_standing on ledger.rule_pause (rule_id, rule_version)
    where lifted_at is null;

-- One card spared from one rule, from an instant until before another (epoch microseconds).
-- from_us lies a little ahead of when it was written, so that every worker knows of it by then
-- and a backtest decides as they did. Lifting sets until_us, a little ahead likewise.
create table ledger.snooze (
    snooze_id bigint generated always as identity primary key,
    rule_id   text not null,
    card_id   bigint not null,
    from_us   bigint not null,
    until_us  bigint not null check (until_us >= from_us),
    reason    text not null check (reason <> ''),
    author    text not null check (author <> ''),
    lifted_by text not null default ''
);
create index snooze_card on ledger.snooze (card_id, until_us);

-- Lists that rules look things up in, beside what a ruleset's own text has under that name.
create table ledger.rule_list (
    name       text primary key check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    field      text not null,
    title      text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null check (created_by <> '')
);

-- In force from from_us until before until_us (null: open), both a little ahead of when they
-- were written, as for snoozes. Removing an entry sets until_us.
create table ledger.rule_list_entry (
    entry_id       bigint generated always as identity primary key,
    list           text not null references ledger.rule_list,
    value          text not null check (value <> ''),
    reason         text not null check (reason <> ''),
    author         text not null check (author <> ''),
    from_us        bigint not null,
    until_us       bigint check (until_us >= from_us),
    removed_by     text not null default '',
    removed_reason text not null default ''
);
create index rule_list_entry_value on ledger.rule_list_entry (list, value);

-- Entries that a rule made, written in the posting of the authorization that made them fire.
create table ledger.listing (
    shard            smallint not null,
    authorization_id bigint not null,
    list             text not null,
    value            text not null,
    field            text not null,
    rule_id          text not null,
    from_us          bigint not null,
    until_us         bigint not null,
    posted_at_us     bigint not null,
    primary key (authorization_id, shard, list, value)
);
create index listing_posted on ledger.listing (posted_at_us);

-- Authorizations that a rule put before a person. `verdict` is the label that precision and
-- recall are counted from.
create table ledger.review (
    shard            smallint not null,
    authorization_id bigint not null,
    business_date    date not null,
    queue            text not null,
    rule_id          text not null,
    card_id          bigint not null,
    at_us            bigint not null,
    verdict          text not null default '' check (verdict in ('', 'fraud', 'genuine', 'unclear')),
    closed_by        text not null default '',
    closed_at        timestamptz,
    note             text not null default '',
    primary key (authorization_id, shard, queue)
);
create index review_open on ledger.review (queue, at_us) where verdict = '';

-- Marks that a rule left on an authorization; `force_online` is one of them.
create table ledger.tag (
    shard            smallint not null,
    authorization_id bigint not null,
    tag              text not null,
    rule_id          text not null,
    business_date    date not null,
    primary key (authorization_id, shard, tag)
);
create trigger tag_append_only before update or delete on ledger.tag
    for each row execute function ledger.refuse_change();
create trigger listing_append_only before update or delete on ledger.listing
    for each row execute function ledger.refuse_change();

-- What terminals, merchants and acquirers add up to in a minute (epoch minutes); see
-- risk/buckets.py. A slot's lane is the only writer of its row, so nobody waits for another.
create table ledger.bucket (
    minute integer not null,
    shard  smallint not null,
    slot   smallint not null,
    series bytea not null check (octet_length(series) = 8),
    key    text not null,
    amount bigint not null,
    primary key (minute, shard, slot, series, key)
) with (fillfactor = 60);

-- From when on each series is complete: before that, what it comes to is unknown.
create table ledger.bucket_series (
    series   bytea primary key check (octet_length(series) = 8),
    since_us bigint not null
);

-- What the rules came to, added up by the hour and by who counted: for people, and for the
-- automatic pause. `mode` is live, canary or shadow; rule_id '' is the ruleset as a whole.
-- gained: declined here and not by what was answered; lost: the other way round.
create table ledger.rule_statistic (
    mode         text not null check (mode in ('live', 'canary', 'shadow')),
    hash         text not null,
    rule_id      text not null,
    rule_version integer not null,
    hour         timestamptz not null,
    slot         smallint not null,
    requests     bigint not null default 0,
    fired        bigint not null default 0,
    declined     bigint not null default 0,
    unknown      bigint not null default 0,
    spared       bigint not null default 0,
    failed       bigint not null default 0,
    gained       bigint not null default 0,
    lost         bigint not null default 0,
    gained_minor bigint not null default 0,
    lost_minor   bigint not null default 0,
    primary key (hash, rule_id, rule_version, mode, hour, slot)
);
create index rule_statistic_hour on ledger.rule_statistic (hash, mode, hour);

-- A bounded number of authorizations that a shadow ruleset would have decided otherwise.
create table ledger.shadow_example (
    hash             text not null,
    slot             smallint not null,
    number           smallint not null,
    authorization_id bigint not null,
    at_us            bigint not null,
    rule_id          text not null,
    answered         text not null,
    shadow           text not null,
    amount_minor     bigint not null,
    sentence         text not null,
    primary key (hash, slot, number)
);

-- Backtests that were asked for, and what came out.
create table ledger.backtest (
    backtest_id bigint generated always as identity primary key,
    hash        text not null,
    from_date   date not null,
    to_date     date not null,
    closed_loop boolean not null,
    actor       text not null,
    started_at  timestamptz not null default clock_timestamp(),
    ended_at    timestamptz,
    state       text not null default 'running'
        check (state in ('running', 'done', 'cancelled', 'failed')),
    result      jsonb
);

-- Who only reads: backtests run as this role. Roles belong to the whole server, so another
-- ledger on it may have made it already, and a role that may not make roles leaves that to
-- whoever may; then a backtest is read-only by its transaction alone.
do $$
begin
    create role citycard_reader nologin;
exception
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then raise notice 'no role citycard_reader: backtests will read with the rights of their own user';
end $$;
do $$
begin
    grant usage on schema ledger, ledger_archive to citycard_reader;
    grant select on all tables in schema ledger, ledger_archive to citycard_reader;
    alter default privileges in schema ledger, ledger_archive grant select on tables to citycard_reader;
exception
    when undefined_object or insufficient_privilege then null;
end $$;
