-- API keys and bill payments (switch/net/http, switch/ledger/bills.py).

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
