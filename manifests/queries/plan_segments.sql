-- The first rows of the newest plans, from the parquet itself. Run it in the folder that holds manifests/.
SELECT filename, "row", source, shard, start, length
FROM read_parquet('manifests/plans/*.parquet', filename = true) WHERE "row" < 3 ORDER BY filename, "row", start;
