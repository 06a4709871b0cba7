-- What have each run's weights seen, of which source, how often?
SELECT run, source, count(*) AS shards, sum(tokens_seen)::BIGINT AS tokens_seen,
       round(sum(tokens_seen) / sum(shard_tokens), 4) AS passes
FROM seen GROUP BY ALL ORDER BY run, source;
