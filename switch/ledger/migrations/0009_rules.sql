-- Rulesets and their life: who wrote, approved and promoted what, which one decides now, the
-- lists and snoozes beside it, what rules asked for, and the counters of terminals, merchants
-- and acquirers.

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

-- The facts that a decision needs of a card beside its history.
alter table ledger.purse
    add column week date not null default '-infinity',
    add column week_count integer not null default 0,
    add column week_minor bigint not null default 0,
    add column lifetime_count bigint not null default 0,
    add column lifetime_minor bigint not null default 0;

-- The business day whose periods (week, month) it counts in, where that is not its own: what
-- is given back counts in those of its original. spent_count and spent_minor were only about
-- the month before; now they are what it adds to whatever periods that day lies in.
alter table ledger.authorization add column spent_on date;
alter table ledger_archive.authorization add column spent_on date;

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
        execute format('alter table %s add column spent_on date', loose);
    end loop;
end $$;

create or replace view ledger.every_authorization as
select * from ledger.authorization union all select * from ledger_archive.authorization;

-- What was spent before this migration, by the week of each message. A day whose detaching was
-- interrupted is in neither table, and counts.
create temporary table spending on commit drop as
select a.shard, a.account_id, a.purse, date_trunc('week', a.business_date)::date as week,
       sum(a.spent_count) as spent_count, sum(a.spent_minor) as spent_minor
from ledger.every_authorization a
where a.spent_count <> 0 or a.spent_minor <> 0
group by 1, 2, 3, 4;
do $$
declare
    loose regclass;
begin
    for loose in
        select c.oid::regclass from pg_class c
        where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'r'
          and c.relname ~ '^authorization_[0-9]{8}$' and not c.relispartition
    loop
        execute format($loose$
            insert into spending
            select a.shard, a.account_id, a.purse, date_trunc('week', a.business_date)::date,
                   sum(a.spent_count), sum(a.spent_minor)
            from %s a
            where a.spent_count <> 0 or a.spent_minor <> 0
            group by 1, 2, 3, 4$loose$, loose);
    end loop;
end $$;
update ledger.purse u
set week = t.week, week_count = t.week_count, week_minor = t.week_minor,
    lifetime_count = t.lifetime_count, lifetime_minor = t.lifetime_minor
from (
    select s.shard, s.account_id, s.purse, max(s.latest) as week,
           sum(s.spent_count) filter (where s.week = s.latest) as week_count,
           sum(s.spent_minor) filter (where s.week = s.latest) as week_minor,
           sum(s.spent_count) as lifetime_count, sum(s.spent_minor) as lifetime_minor
    from (select p.*, max(p.week) over (partition by p.shard, p.account_id, p.purse) as latest
          from spending p) s
    group by s.shard, s.account_id, s.purse
) t
where u.shard = t.shard and u.account_id = t.account_id and u.purse = t.purse;

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
