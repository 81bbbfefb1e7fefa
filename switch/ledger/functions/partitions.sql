-- Partitions of the three daily tables, one per business day.

-- Makes the partitions of one business day where missing; true if it made any.
--
-- A table is made by itself and then attached: attaching lets others read and write the
-- parent meanwhile, where `create table … partition of` waits for every reader (an audit,
-- a backtest) and makes all postings wait behind it.
create or replace function ledger.make_partitions(p_day date) returns boolean
language plpgsql as $$
declare
    parent text;
    child  text;
    made   boolean := false;
begin
    foreach parent in array array['authorization', 'transfer', 'tap'] loop
        child := parent || '_' || to_char(p_day, 'YYYYMMDD');
        if to_regclass('ledger.' || child) is null and to_regclass('ledger_archive.' || child) is null then
            execute format('create table ledger.%I (like ledger.%I including all)', child, parent);
            execute format('alter table ledger.%I attach partition ledger.%I for values from (%L) to (%L)',
                           parent, child, p_day, p_day + 1);
            made := true;
        end if;
    end loop;
    return made;
end $$;

-- The attached days, oldest first, with what is in them by the planner's estimate.
create or replace function ledger.list_partitions()
returns table (business_date date, table_name text, row_estimate bigint, bytes bigint)
language sql stable as $$
    select to_date(right(c.relname, 8), 'YYYYMMDD'), c.relname::text,
           greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('ledger.authorization'::regclass, 'ledger.transfer'::regclass,
                          'ledger.tap'::regclass)
    order by 1, 2
$$;

-- The statements that detach the days before p_day, oldest first, to be run one by one and
-- outside a transaction: concurrently, so that nobody waits. One that was interrupted
-- half-way is finished.
create or replace function ledger.detach_statements(p_day date)
returns table (table_name text, statement text)
language sql stable as $$
    select c.relname::text,
           format('alter table ledger.%I detach partition ledger.%I %s', p.relname, c.relname,
                  case when i.inhdetachpending then 'finalize' else 'concurrently' end)
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    join pg_class p on p.oid = i.inhparent
    where i.inhparent in ('ledger.authorization'::regclass, 'ledger.transfer'::regclass,
                          'ledger.tap'::regclass)
      and to_date(right(c.relname, 8), 'YYYYMMDD') < p_day
    order by i.inhdetachpending desc, 1
$$;

-- Days that were detached and not yet put into the archive: a detaching that was interrupted.
create or replace function ledger.loose_partitions() returns table (table_name text)
language sql stable as $$
    select c.relname::text
    from pg_class c
    where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'r'
      and c.relname ~ '^(authorization|transfer|tap)_[0-9]{8}$' and not c.relispartition
    order by 1
$$;

-- Puts a detached day into the archive, under the archive's own append-only triggers.
create or replace function ledger.archive_partition(p_table text) returns void
language plpgsql as $$
declare
    parent text := split_part(p_table, '_', 1);
    day    date := to_date(right(p_table, 8), 'YYYYMMDD');
begin
    execute format('alter table ledger.%I set schema ledger_archive', p_table);
    execute format('alter table ledger_archive.%I attach partition ledger_archive.%I for values from (%L) to (%L)',
                   parent, p_table, day, day + 1);
end $$;
