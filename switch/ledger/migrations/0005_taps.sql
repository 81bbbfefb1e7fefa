-- Taps and their fares, the purse on the chip, rights to fare classes, venues.

-- Purse 3 is the ledger's shadow of the purse on a card's chip; a journey's hold is the most
-- that the ride may cost.
alter table ledger.purse
    drop constraint purse_purse_check,
    add constraint purse_purse_check check (purse in (1, 2, 3));
alter table ledger.hold
    drop constraint hold_purse_check,
    drop constraint hold_purpose_check,
    add constraint hold_purse_check check (purse in (1, 2, 3)),
    add constraint hold_purpose_check check (purpose in ('preauthorization', 'load', 'journey')),
    drop constraint hold_amount_minor_check,
    add constraint hold_amount_minor_check check (amount_minor >= 0),
    -- A ride may be free for whom it is.
    add constraint hold_has_amount check (amount_minor > 0 or purpose = 'journey'),
    -- Of the message that opened it, so that what the switch makes of its end says where it was.
    add column venue text not null default '';

-- A journey that nobody ended may be ended late: its other tap corrects what was charged.
create index hold_journey_expired on ledger.hold (account_id, shard, expires_at_us)
    where status = 'expired' and purpose = 'journey';

-- Whether the card is on the hotlist of readers.
alter table ledger.card add column hotlisted boolean not null default false;

-- Where a message was made: the venue's code, and for a tap its line and stop ("line/stop") and
-- its vehicle.
alter table ledger.authorization
    add column venue text not null default '',
    add column stop text not null default '',
    add column vehicle text not null default '';
alter table ledger_archive.authorization
    add column venue text not null default '',
    add column stop text not null default '',
    add column vehicle text not null default '';

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
        execute format('alter table %s add column venue text not null default '''', '
                       'add column stop text not null default '''', '
                       'add column vehicle text not null default ''''', loose);
    end loop;
end $$;

create or replace view ledger.every_authorization as
select * from ledger.authorization union all select * from ledger_archive.authorization;

create or replace view ledger.readable_authorization as
select business_date, to_timestamp(at_us / 1000000.0) as decided_at, shard, authorization_id,
       account_id, card_id, acquirer, link, terminal, merchant, mcc, kind, outcome,
       amount_minor, approved_minor, currency, rrn, auth_code, ruleset, explanation,
       venue, stop, vehicle
from ledger.authorization;

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
