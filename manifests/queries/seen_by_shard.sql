-- The same, shard by shard.
FROM seen ORDER BY run, source, shard;
