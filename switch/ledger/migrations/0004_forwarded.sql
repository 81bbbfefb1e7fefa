-- Requests that went to the hosts of other issuers.

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
