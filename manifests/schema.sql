-- tokens.db: where every token is, which plan uses it, which run has seen it.
-- Derived from receipts, recipes and journals by `python -m dataprep.index`; delete it at will.
-- Counts are BIGINT and exact. Times are UTC. README.md beside this file explains every column.

CREATE TABLE sources (source VARCHAR, kind VARCHAR, repo VARCHAR, revision VARCHAR, licence VARCHAR, holdout VARCHAR);
CREATE TABLE asked_shards (source VARCHAR, tokenizer VARCHAR, shard VARCHAR, split VARCHAR);
CREATE TABLE tokenizers (tokenizer VARCHAR, fingerprint VARCHAR, vocab_size BIGINT, end_id BIGINT);
CREATE TABLE shards (
    source VARCHAR, shard VARCHAR, split VARCHAR,
    file VARCHAR, file_bytes BIGINT, file_sha256 VARCHAR,
    documents BIGINT, empty_documents BIGINT, excluded_documents BIGINT, unsupervised_documents BIGINT,
    text_bytes BIGINT, tokens BIGINT, loss_tokens BIGINT,
    tokenizer VARCHAR, bin VARCHAR, bin_sha256 VARCHAR
);
CREATE TABLE excluded (source VARCHAR, tokenizer VARCHAR, shard VARCHAR, reason VARCHAR, documents BIGINT);
CREATE TABLE recipes (
    recipe VARCHAR, tokenizer VARCHAR, seq_len BIGINT, strategy VARCHAR, loss VARCHAR, attention VARCHAR,
    unit VARCHAR, epochs BIGINT, seed BIGINT, split VARCHAR,
    plan_rows BIGINT, tokens BIGINT, loss_tokens BIGINT, pad_tokens BIGINT, dropped_tokens BIGINT,
    split_documents BIGINT, documents BIGINT, sha256 VARCHAR, plan VARCHAR, exclude_seen VARCHAR
);
CREATE TABLE recipe_sources (
    recipe VARCHAR, source VARCHAR, share BIGINT, asked BIGINT,
    plan_rows BIGINT, tokens BIGINT, unique_tokens BIGINT, loss_tokens BIGINT, documents BIGINT, passes BIGINT, pad_tokens BIGINT, split_documents BIGINT,
    excluded_tokens BIGINT, seen_tokens BIGINT, held_out_tokens BIGINT, left_over_tokens BIGINT, dropped_tokens BIGINT
);
CREATE TABLE recipe_shards (
    recipe VARCHAR, source VARCHAR, shard VARCHAR, tokens BIGINT, bin_sha256 VARCHAR, loss_sha256 VARCHAR
);
CREATE TABLE runs (
    run VARCHAR, stage VARCHAR, recipe VARCHAR, parent_run VARCHAR, parent_step BIGINT, status VARCHAR, params BIGINT,
    world_size BIGINT, batch_rows BIGINT, micro_batch BIGINT, accumulation BIGINT,
    started_at TIMESTAMP, ended_at TIMESTAMP, trashed_at TIMESTAMP
);
CREATE TABLE steps (
    run VARCHAR, attempt BIGINT, step BIGINT, row_from BIGINT, row_to BIGINT, tokens BIGINT, loss_tokens BIGINT,
    loss DOUBLE, lr DOUBLE, grad_norm DOUBLE, seconds DOUBLE, tokens_per_s DOUBLE, mfu DOUBLE,
    vram_allocated BIGINT, vram_reserved BIGINT, in_weights BOOLEAN
);
CREATE TABLE checkpoints (
    run VARCHAR, step BIGINT, rows_done BIGINT, tokens_done BIGINT, path VARCHAR, bytes BIGINT, sha256 VARCHAR
);
CREATE TABLE evals (
    run VARCHAR, step BIGINT, tokens_done BIGINT, recipe VARCHAR,
    suite VARCHAR, task VARCHAR, n BIGINT, value DOUBLE, stderr DOUBLE
);
CREATE TABLE samples (
    run VARCHAR, step BIGINT, tokens_done BIGINT, recipe VARCHAR,
    prompt VARCHAR, completion VARCHAR, fact VARCHAR, expected VARCHAR, hit BOOLEAN, temperature DOUBLE
);
CREATE TABLE ancestor_rows (
    run VARCHAR, place BIGINT, ancestor VARCHAR, recipe VARCHAR, recipe_sha256 VARCHAR, attempt BIGINT,
    row_from BIGINT, row_to BIGINT, tokens BIGINT, row_tokens BIGINT
);
CREATE TABLE reseen_rows (run VARCHAR, recipe VARCHAR, row_from BIGINT, row_to BIGINT, times BIGINT, tokens BIGINT);
CREATE TABLE seen_tokens (
    run VARCHAR, ancestor VARCHAR, recipe VARCHAR, source VARCHAR, shard VARCHAR, tokens BIGINT
);

-- What is held, by source, tokenizer and split.
CREATE VIEW supply AS
SELECT source, tokenizer, split, count(*) AS shards,
       sum(documents)::BIGINT AS documents, sum(tokens)::BIGINT AS tokens
FROM shards GROUP BY ALL;

-- What `make shards` was last asked for, and what of it is there.
CREATE VIEW expected_shards AS
SELECT a.source, count(*) AS asked, count(s.shard) AS held, count(*) - count(s.shard) AS missing
FROM asked_shards a LEFT JOIN shards s USING (source, tokenizer, shard) GROUP BY a.source;

-- The law: tokens = in the plan (once, however often repeated) + excluded + held out + left over + dropped + arrived after packing.
CREATE VIEW conservation AS
WITH held AS (
    SELECT rs.recipe, rs.source,
           sum(s.tokens)::BIGINT AS tokens,
           coalesce(sum(s.tokens) FILTER (s.split <> r.split), 0)::BIGINT AS held_out,
           coalesce(sum(s.tokens) FILTER (s.split = r.split AND p.shard IS NULL), 0)::BIGINT AS arrived_later
    FROM recipe_sources rs
    JOIN recipes r ON r.recipe = rs.recipe
    JOIN shards s ON s.source = rs.source AND s.tokenizer = r.tokenizer
    LEFT JOIN recipe_shards p
        ON p.recipe = rs.recipe AND p.source = s.source AND p.shard = s.shard AND p.bin_sha256 = s.bin_sha256
    GROUP BY rs.recipe, rs.source
)
SELECT rs.recipe, rs.source, coalesce(held.tokens, 0) AS tokens, rs.unique_tokens AS in_plan,
       rs.excluded_tokens AS excluded, coalesce(held.held_out, 0) AS held_out,
       rs.left_over_tokens AS left_over, rs.dropped_tokens AS dropped, coalesce(held.arrived_later, 0) AS arrived_later,
       coalesce(held.tokens - held.held_out - held.arrived_later, 0)
           - rs.unique_tokens - rs.excluded_tokens - rs.left_over_tokens - rs.dropped_tokens AS difference
FROM recipe_sources rs LEFT JOIN held ON held.recipe = rs.recipe AND held.source = rs.source;

-- What the weights of each run have seen of each shard, its ancestors' share with it. Recipes may differ along the
-- ancestry: each is held against the shard as it was planned with. passes = tokens seen / tokens of the shard.
CREATE VIEW seen AS
SELECT t.run, t.source, t.shard, sum(t.tokens)::BIGINT AS tokens_seen, max(p.tokens) AS shard_tokens,
       sum(t.tokens / p.tokens) AS passes
FROM seen_tokens t JOIN recipe_shards p USING (recipe, source, shard)
GROUP BY t.run, t.source, t.shard;

-- The rows in each run's weights, oldest first: its ancestors' as they were when it began, then its own,
-- one line per attempt that put them there.
CREATE VIEW lineage AS
SELECT run, ancestor, recipe, attempt, row_from, row_to, tokens FROM ancestor_rows ORDER BY run, place;

-- For each run, itself and every ancestor: which of the ancestor's own tokens are in the run's weights, and how many lie
-- before them. Evaluations of an ancestor count for a run up to tokens_until; those of the run itself all do. An ancestor
-- that went back behind the fork has other weights from there on: tokens_until is where it began anew.
CREATE VIEW ancestry AS
WITH attempts AS (
    SELECT run, ancestor, attempt, min(place) AS place, sum(tokens)::BIGINT AS tokens
    FROM ancestor_rows GROUP BY run, ancestor, attempt
), parts AS (
    SELECT a.run, a.ancestor, min(a.place) AS place, sum(a.tokens)::BIGINT AS tokens,
           sum(least(a.tokens, coalesce(now.tokens, 0)))::BIGINT AS tokens_until
    FROM attempts a LEFT JOIN attempts now ON now.run = a.ancestor AND now.ancestor = a.ancestor AND now.attempt = a.attempt
    GROUP BY a.run, a.ancestor
    UNION ALL BY NAME
    SELECT run, run AS ancestor, 1 << 40 AS place, 0 AS tokens FROM runs
    WHERE NOT EXISTS (FROM ancestor_rows a WHERE a.run = runs.run AND a.ancestor = runs.run)
)
SELECT run, ancestor, row_number() OVER older AS generation,
       coalesce(sum(tokens) OVER (older ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::BIGINT AS tokens_before,
       CASE WHEN ancestor <> run THEN tokens_until END AS tokens_until
FROM parts WINDOW older AS (PARTITION BY run ORDER BY place);

-- Rows that the weights of a run hold more than once, along the ancestry: by a second pass, a fork or a resume that
-- began again at row 0. reseen_tokens is NULL where the recipe is gone and nothing tells what its rows held.
CREATE VIEW reseen AS
WITH again AS (
    SELECT run, recipe, sum((row_to - row_from) * times)::BIGINT AS n_rows,
           CASE WHEN count(*) = count(tokens) THEN sum(tokens)::BIGINT END AS tokens
    FROM reseen_rows GROUP BY run, recipe
)
SELECT a.run, a.recipe, sum(a.row_to - a.row_from)::BIGINT AS rows_seen,
       (sum(a.row_to - a.row_from) - coalesce(any_value(again.n_rows), 0))::BIGINT AS distinct_rows,
       sum(a.tokens)::BIGINT AS tokens_in_weights,
       CASE WHEN any_value(again.n_rows) IS NULL THEN 0 ELSE any_value(again.tokens) END AS reseen_tokens
FROM ancestor_rows a LEFT JOIN again ON again.run = a.run AND again.recipe = a.recipe
GROUP BY a.run, a.recipe;

-- Tokens per step as a product, every factor named, beside the rows that a step of the last attempt really took.
-- A row of a replayed run's supply has its row_tokens; seq_len is NULL where the recipe is gone.
CREATE VIEW batch_math AS
WITH counted AS (
    SELECT run, recipe, any_value(row_tokens) AS row_tokens FROM ancestor_rows WHERE ancestor = run GROUP BY run, recipe
)
SELECT run, world_size, micro_batch, accumulation, batch_rows, coalesce(seq_len, row_tokens) AS seq_len,
       world_size * micro_batch * accumulation * coalesce(seq_len, row_tokens) AS tokens_per_step,
       max(row_to - row_from) AS rows_consumed,
       max(row_to - row_from) = least(world_size * micro_batch * accumulation, any_value(plan_rows)) AS product_holds
FROM runs JOIN steps USING (run) LEFT JOIN recipes USING (recipe) LEFT JOIN counted USING (run, recipe)
WHERE attempt = (SELECT max(attempt) FROM steps s WHERE s.run = runs.run)
GROUP BY run, world_size, micro_batch, accumulation, batch_rows, seq_len, row_tokens;

-- How far each run is, and what it computed in vain. Rows are counted: a replayed run's need not be one stretch.
CREATE VIEW progress AS
SELECT r.run, r.status, r.recipe,
       coalesce(sum(s.row_to - s.row_from) FILTER (s.in_weights), 0)::BIGINT AS rows_done, any_value(q.plan_rows) AS plan_rows,
       coalesce(sum(s.tokens) FILTER (s.in_weights), 0)::BIGINT AS tokens_in_weights,
       coalesce(sum(s.tokens) FILTER (NOT s.in_weights), 0)::BIGINT AS tokens_not_in_weights,
       arg_max(s.loss, s.row_to) FILTER (s.in_weights) AS last_loss
FROM runs r LEFT JOIN steps s ON s.run = r.run LEFT JOIN recipes q ON q.recipe = r.recipe
GROUP BY r.run, r.status, r.recipe;
