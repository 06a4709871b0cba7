-- Which shards were asked for and are not held?
SELECT a.source, a.shard, a.split
FROM asked_shards a LEFT JOIN shards s USING (source, tokenizer, shard)
WHERE s.shard IS NULL ORDER BY ALL;
