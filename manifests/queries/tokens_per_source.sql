-- How many tokens are held of each source, and how many bytes of text is a token?
SELECT source, tokenizer, split, count(*) AS shards, sum(documents)::BIGINT AS documents,
       sum(tokens)::BIGINT AS tokens, round(sum(text_bytes) / sum(tokens), 2) AS bytes_per_token
FROM shards GROUP BY ALL ORDER BY source, tokenizer, split DESC;
