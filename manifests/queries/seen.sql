-- What have each run's weights seen, of which source, how often?
SELECT run, source, count(*) AS shards, sum(tokens_seen)::BIGINT AS tokens_seen,
       round(sum(tokens_seen) / sum(s.tokens), 4) AS passes
FROM seen JOIN runs USING (run) JOIN recipes USING (recipe)
JOIN shards s ON s.source = seen.source AND s.shard = seen.shard AND s.tokenizer = recipes.tokenizer
GROUP BY run, seen.source ORDER BY run, source;
