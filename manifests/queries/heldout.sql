-- How well do each run's weights foretell text they never saw, per source, against the tokens in them (its ancestors' too)?
SELECT e.run, e.task AS source, any_value(r.loss) AS counted, e.step,
       (e.tokens_done + coalesce(any_value(a.tokens), 0))::BIGINT AS tokens_in_weights,
       any_value(round(e.value, 4)) FILTER (e.suite = 'heldout') AS loss,
       any_value(round(e.stderr, 4)) FILTER (e.suite = 'heldout') AS loss_stderr,
       any_value(round(e.value, 4)) FILTER (e.suite = 'heldout-bpb') AS bits_per_byte,
       any_value(round(e.stderr, 4)) FILTER (e.suite = 'heldout-bpb') AS bits_stderr
FROM evals e LEFT JOIN recipes r USING (recipe)
LEFT JOIN (SELECT run, sum(tokens) AS tokens FROM lineage WHERE ancestor <> run GROUP BY run) a USING (run)
WHERE e.suite IN ('heldout', 'heldout-bpb')
GROUP BY e.run, e.task, e.step, e.tokens_done
ORDER BY e.run, source, e.step;
