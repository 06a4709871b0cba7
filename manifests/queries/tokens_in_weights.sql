-- How many tokens made the weights of each run: its ancestors' share, its own, and what it computed in vain?
SELECT r.run, r.parent_run || '@' || r.parent_step AS parent, r.trashed_at,
       coalesce(sum(a.tokens), 0)::BIGINT AS tokens_in_weights,
       coalesce(sum(a.tokens) FILTER (a.ancestor <> a.run), 0)::BIGINT AS of_ancestors,
       coalesce(sum(a.tokens) FILTER (a.ancestor = a.run), 0)::BIGINT AS own,
       any_value(p.tokens_not_in_weights) AS computed_not_in_weights
FROM runs r LEFT JOIN ancestor_rows a ON a.run = r.run JOIN progress p ON p.run = r.run
GROUP BY r.run, parent, r.trashed_at ORDER BY r.run;
