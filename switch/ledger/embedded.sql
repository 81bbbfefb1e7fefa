-- For psql: makes the database of the embedded server where it is missing.
select 'create database citycard' where not exists (
    select 1 from pg_database where datname = 'citycard'
) \gexec
