-- The spool of stand-in: what was answered while the ledger was away and is still to be posted.
-- SQLite, one file for all workers of a machine; counters are kept by triggers, so that they
-- are right whoever writes.

-- name: schema
begin immediate;
create table if not exists spool (
    one integer primary key check (one = 1),
    switched_on integer not null default 1,
    open_rows integer not null default 0 check (open_rows >= 0)
) strict;
insert or ignore into spool (one) values (1);
create table if not exists advice (
    id integer primary key autoincrement,
    key blob not null unique,
    payload_hash blob not null,
    original_key blob not null,
    kind text not null check (kind in ('purchase', 'reversal', 'late_reversal')),
    segment text not null,
    medium blob not null,
    amount_minor integer not null,
    slot integer not null,
    request blob not null,
    card blob not null,
    auth_code text not null,
    rrn text not null,
    at_us integer not null,
    -- answers that may have given the approval out and are not withdrawn
    claims integer not null default 1,
    -- whether a posting of it may have been sent
    begun integer not null default 0,
    state text not null default 'open'
        check (state in ('open', 'posted', 'suspense', 'refused', 'withdrawn')),
    result text not null default '',
    authorization_id integer not null default 0
) strict;
create index if not exists advice_open on advice (id, medium) where state = 'open';
create index if not exists advice_original on advice (original_key) where original_key <> x'';
-- sales approved since the outage began; the empty medium is the segment's total
create table if not exists exposure (
    segment text not null,
    medium blob not null,
    count integer not null,
    amount_minor integer not null,
    primary key (segment, medium)
) strict, without rowid;
create trigger if not exists advice_added after insert on advice when new.state = 'open'
begin
    update spool set open_rows = open_rows + 1;
end;
create trigger if not exists advice_done after update of state on advice
when old.state = 'open' and new.state <> 'open'
begin
    update spool set open_rows = open_rows - 1;
end;
pragma user_version = 1;
commit;

-- name: state
select switched_on, open_rows from spool

-- name: switch
update spool set switched_on = ?

-- name: stored
select payload_hash, amount_minor, auth_code, rrn from advice where key = ?

-- name: reversal_of
select 1 from advice where original_key = ? and original_key <> x'' limit 1

-- name: claim
update advice set claims = claims + 1 where key = ? and claims > 0 returning claims

-- name: withdraw
update advice set claims = claims - 1 where key = ? and claims > 0
returning claims, begun, state

-- name: withdrawn
update advice set state = 'withdrawn', result = 'answered_late' where key = ?

-- name: add_late_reversal
insert or ignore into advice
    (key, payload_hash, original_key, kind, segment, medium, amount_minor, slot, request, card,
     auth_code, rrn, at_us)
select ?, payload_hash, key, 'late_reversal', segment, medium, amount_minor, slot, request, card,
       '', rrn, ?
from advice where key = ?

-- name: begin_outage
delete from exposure

-- name: exposure
select count, amount_minor from exposure where segment = ? and medium = ?

-- name: expose
insert into exposure (segment, medium, count, amount_minor) values (?, ?, 1, ?)
on conflict do update
set count = count + 1, amount_minor = amount_minor + excluded.amount_minor

-- name: add
insert into advice
    (key, payload_hash, original_key, kind, segment, medium, amount_minor, slot, request, card,
     auth_code, rrn, at_us)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: oldest
select at_us from advice indexed by advice_open where state = 'open' order by id limit 1

-- name: newest_id
select coalesce(max(id), 0) from advice

-- name: open_mediums
select distinct medium from advice indexed by advice_open where state = 'open' and id > ?

-- name: page
select a.id, a.key, a.kind, a.segment, a.medium, a.amount_minor, a.request, a.card, a.auth_code,
       a.rrn, a.at_us, a.original_key, coalesce(o.authorization_id, 0), coalesce(o.state, '')
from advice a left join advice o on a.original_key <> x'' and o.key = a.original_key
where a.state = 'open' order by a.id limit ?

-- name: begin_posting
update advice set begun = 1 where state = 'open' and begun = 0 and id between ? and ?

-- name: settle
update advice set state = ?, result = ?, authorization_id = ? where id = ? and state = 'open'

-- name: prune
delete from advice where id in (
    select id from advice
    where state in ('posted', 'suspense', 'withdrawn')
      and (at_us < ? or id <= (select max(id) from advice) - ?)
    order by id limit ?)

-- name: summary
select segment, state, count(*), coalesce(sum(amount_minor), 0), min(at_us)
from advice group by segment, state order by segment, state

-- name: refused
select id, segment, kind, amount_minor, at_us, result from advice
where state = 'refused' order by id limit ?

-- name: totals
select segment, count, amount_minor from exposure where medium = x'' order by segment
