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
