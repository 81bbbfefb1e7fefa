-- The calls of the hot path; see store.py.

-- name: load_batch
select * from ledger.load_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23, $24)

-- name: post_batch
select * from ledger.post_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38,
    $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56,
    $57, $58, $59, $60, $61, $62, $63)

-- name: find_mediums
select medium, shard, account_id, card_id from ledger.medium where medium = any ($1)

-- name: newest_mediums
select medium, shard, account_id, card_id from ledger.medium
where card_id < $1 order by card_id desc limit $2
