-- name: add
-- Add to what this slot has counted. Rows come sorted, so that two workers which share a slot
-- for a moment (a rolling restart) never wait for one another crosswise.
insert into ledger.rule_statistic as known (
    mode, hash, rule_id, rule_version, hour, slot, requests, fired, declined, unknown, spared,
    failed, gained, lost, gained_minor, lost_minor)
select mode, hash, rule_id, rule_version, to_timestamp(hour * 3600), $1, requests, fired,
       declined, unknown, spared, failed, gained, lost, gained_minor, lost_minor
from unnest($2::text[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::int8[], $8::int8[],
            $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::int8[],
            $15::int8[], $16::int8[])
     as u (mode, hash, rule_id, rule_version, hour, requests, fired, declined, unknown, spared,
           failed, gained, lost, gained_minor, lost_minor)
on conflict (hash, rule_id, rule_version, mode, hour, slot) do update set
    requests = known.requests + excluded.requests,
    fired = known.fired + excluded.fired,
    declined = known.declined + excluded.declined,
    unknown = known.unknown + excluded.unknown,
    spared = known.spared + excluded.spared,
    failed = known.failed + excluded.failed,
    gained = known.gained + excluded.gained,
    lost = known.lost + excluded.lost,
    gained_minor = known.gained_minor + excluded.gained_minor,
    lost_minor = known.lost_minor + excluded.lost_minor

-- name: keep_examples
insert into ledger.shadow_example (
    hash, slot, number, authorization_id, at_us, rule_id, answered, shadow, amount_minor, sentence)
select hash, $1, number, authorization_id, at_us, rule_id, answered, shadow, amount_minor, sentence
from unnest($2::text[], $3::int4[], $4::int8[], $5::int8[], $6::text[], $7::text[], $8::text[],
            $9::int8[], $10::text[])
     as u (hash, number, authorization_id, at_us, rule_id, answered, shadow, amount_minor,
           sentence)
on conflict (hash, slot, number) do update set
    authorization_id = excluded.authorization_id,
    at_us = excluded.at_us,
    rule_id = excluded.rule_id,
    answered = excluded.answered,
    shadow = excluded.shadow,
    amount_minor = excluded.amount_minor,
    sentence = excluded.sentence
