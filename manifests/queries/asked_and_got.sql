-- What part of each recipe was asked for, and what did each share get, in every unit?
WITH per_share AS (
    SELECT recipe, share, string_agg(source, '+' ORDER BY source) AS sources, any_value(asked) AS asked,
           sum(plan_rows) AS plan_rows, sum(tokens) AS tokens, sum(loss_tokens) AS loss_tokens,
           sum(documents) AS documents
    FROM recipe_sources GROUP BY recipe, share
)
SELECT p.recipe, sources, r.unit,
       round(100 * asked / sum(asked) OVER whole, 3) AS asked_percent,
       round(100 * p.plan_rows / sum(p.plan_rows) OVER whole, 3) AS rows_percent,
       round(100 * p.tokens / sum(p.tokens) OVER whole, 3) AS tokens_percent,
       round(100 * p.loss_tokens / sum(p.loss_tokens) OVER whole, 3) AS loss_tokens_percent,
       round(100 * p.documents / sum(p.documents) OVER whole, 3) AS documents_percent
FROM per_share p JOIN recipes r ON r.recipe = p.recipe
WINDOW whole AS (PARTITION BY p.recipe) ORDER BY p.recipe, share;
