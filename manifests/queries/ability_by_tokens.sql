-- What can each run's weights do, against the tokens in them, from its oldest ancestor on? Facts are right at temperature 0.
WITH found AS (
    SELECT run, step, tokens_done, recipe, suite, task, n, value, stderr FROM evals
    UNION ALL BY NAME
    SELECT run, step, tokens_done, any_value(recipe) AS recipe, 'facts' AS suite, 'right' AS task, count(*) AS n,
           avg(hit::INT) AS value, CASE WHEN count(*) > 1 THEN sqrt(avg(hit::INT) * (1 - avg(hit::INT)) / (count(*) - 1)) END AS stderr
    FROM samples WHERE temperature = 0 AND fact IS NOT NULL GROUP BY run, step, tokens_done
)
SELECT a.run, f.suite, f.task, (a.tokens_before + f.tokens_done)::BIGINT AS tokens_in_weights,
       f.run AS by_run, f.step, f.recipe, f.n, round(f.value, 4) AS value, round(f.stderr, 4) AS stderr
FROM ancestry a JOIN found f ON f.run = a.ancestor AND (a.tokens_until IS NULL OR f.tokens_done <= a.tokens_until)
ORDER BY a.run, f.suite, f.task, tokens_in_weights, a.generation;
