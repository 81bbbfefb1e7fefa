-- Working keys of links and upstreams.

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
