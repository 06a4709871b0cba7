-- What is left of each source after what a run's weights hold, its ancestry's share with it? Read from the plans, so
-- that a token seen twice counts once. Shards count as they were trained on. Run it in the folder that holds manifests/.
WITH runs_of AS (
    SELECT DISTINCT run, tokenizer FROM ancestor_rows JOIN recipes USING (recipe)
),
segments AS (
    SELECT a.run, p.source, p.shard, p.start, p.start + p.length AS stop
    FROM ancestor_rows a
    JOIN recipes r ON r.recipe = a.recipe AND r.sha256 = a.recipe_sha256
    JOIN read_parquet('manifests/plans/*.parquet', filename = true) p
        ON parse_filename(p.filename) = a.recipe || '.parquet' AND p."row" >= a.row_from AND p."row" < a.row_to
    JOIN recipe_shards planned ON planned.recipe = a.recipe AND planned.source = p.source AND planned.shard = p.shard
    JOIN shards held ON held.source = p.source AND held.shard = p.shard AND held.tokenizer = r.tokenizer
        AND held.bin_sha256 = planned.bin_sha256
),
reached AS (
    SELECT *, coalesce(max(stop) OVER (
        PARTITION BY run, source, shard ORDER BY start, stop ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS seen_to FROM segments
),
seen_once AS (
    SELECT run, source, sum(greatest(stop - greatest(start, seen_to), 0))::BIGINT AS tokens FROM reached
    GROUP BY run, source
)
SELECT w.run, s.source, s.tokens, coalesce(o.tokens, 0) AS seen, s.tokens - coalesce(o.tokens, 0) AS left_tokens
FROM runs_of w JOIN supply s ON s.tokenizer = w.tokenizer AND s.split = 'train'
LEFT JOIN seen_once o ON o.run = w.run AND o.source = s.source
ORDER BY w.run, s.source;
