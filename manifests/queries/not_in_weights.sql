-- What was computed and is in no weights? Lost in a crash, or given up by going back to an earlier checkpoint.
SELECT run, attempt, count(*) AS steps, min(row_from) AS row_from, max(row_to) AS row_to,
       sum(tokens)::BIGINT AS tokens, round(sum(seconds), 1) AS seconds
FROM steps WHERE NOT in_weights GROUP BY run, attempt ORDER BY run, attempt;
