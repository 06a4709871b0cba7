-- Loss against tokens in the weights, in twenty points per run.
SELECT run, max(tokens_done)::BIGINT AS tokens_done, round(avg(loss), 4) AS loss
FROM (
    SELECT run, loss, sum(tokens) OVER (PARTITION BY run ORDER BY row_from) AS tokens_done,
           ntile(20) OVER (PARTITION BY run ORDER BY row_from) AS part
    FROM steps WHERE in_weights
) GROUP BY run, part ORDER BY run, part;
