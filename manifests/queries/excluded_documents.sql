-- Which documents were left out of the bins, and why? Those without a reason are held but teach no answer.
SELECT source, tokenizer, reason, sum(documents)::BIGINT AS documents, count(*) AS shards
FROM (
    SELECT source, tokenizer, shard, 'excluded: ' || reason AS reason, documents FROM excluded
    UNION ALL
    SELECT source, tokenizer, shard, 'held, but the assistant says nothing', unsupervised_documents
    FROM shards WHERE unsupervised_documents > 0
)
GROUP BY ALL ORDER BY source, tokenizer, documents DESC, reason;
