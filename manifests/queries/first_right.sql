-- When was each fact first right at temperature 0, along each run's ancestry, and is it right now? Facts never right are last.
WITH asked AS (
    SELECT a.run, a.generation, s.fact, s.expected, s.run AS by_run, s.step, s.hit,
           a.tokens_before + s.tokens_done AS tokens_in_weights
    FROM ancestry a JOIN samples s ON s.run = a.ancestor
    WHERE s.temperature = 0 AND s.fact IS NOT NULL AND (a.tokens_until IS NULL OR s.tokens_done <= a.tokens_until)
), first AS (
    SELECT DISTINCT ON (run, fact) run, fact, by_run, step, tokens_in_weights
    FROM asked WHERE hit ORDER BY run, fact, tokens_in_weights, generation
), newest AS (
    SELECT DISTINCT ON (run, fact) run, fact, expected, hit
    FROM asked ORDER BY run, fact, tokens_in_weights DESC, generation DESC
)
SELECT newest.run, newest.fact, newest.expected, first.by_run AS first_right_in, first.step AS first_right_at,
       first.tokens_in_weights, newest.hit AS right_now
FROM newest LEFT JOIN first USING (run, fact)
ORDER BY newest.run, first.tokens_in_weights NULLS LAST, newest.fact;
