-- What did each stage along a run's ancestry make of held-out text? Bits per byte, per source, where the stage began and ended.
-- Within a line both count the same targets (`counted`): all, or those that the assistant says.
WITH judged AS (
    SELECT a.run, a.generation, e.run AS stage_run, e.recipe, e.task AS source, e.step, e.value, e.stderr,
           a.tokens_before + e.tokens_done AS tokens_in_weights
    FROM ancestry a JOIN evals e ON e.run = a.ancestor AND (a.tokens_until IS NULL OR e.tokens_done <= a.tokens_until)
    WHERE e.suite = 'heldout-bpb' AND e.value IS NOT NULL
)
SELECT j.run, any_value(r.stage) AS stage, j.stage_run, j.source, any_value(c.loss) AS counted,
       min(j.step) AS from_step, round(arg_min(j.value, j.step), 4) AS bits_from,
       max(j.step) AS to_step, round(arg_max(j.value, j.step), 4) AS bits_to,
       round(arg_max(j.stderr, j.step), 4) AS stderr, max(j.tokens_in_weights)::BIGINT AS tokens_in_weights
FROM judged j JOIN runs r ON r.run = j.stage_run LEFT JOIN recipes c ON c.recipe = j.recipe
GROUP BY j.run, j.generation, j.stage_run, j.source
ORDER BY j.run, j.generation, j.source;
