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
