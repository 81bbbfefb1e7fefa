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
-- Balance and held change only together with the transfers that explain them; the month totals
-- are approved spending less what reversals of the same month gave back. Day sums need no
-- total: a day is history (24 h).
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
    -- What it added to its purse's month totals; below zero where it gave back.
    spent_count      integer not null default 0,
    spent_minor      bigint not null default 0,
    -- Where it was made: the venue's code, and for a tap its line and stop ("line/stop") and
    -- its vehicle.
    venue            text not null default '',
    stop             text not null default '',
    vehicle          text not null default '',
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
