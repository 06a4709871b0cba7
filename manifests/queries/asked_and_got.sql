-- What share of each recipe was asked of a source, and what did it get?
SELECT rs.recipe, rs.source, asked, rs.plan_rows,
       round(100 * asked / sum(asked) OVER per_recipe, 3) AS asked_percent,
       round(100 * rs.plan_rows / sum(rs.plan_rows) OVER per_recipe, 3) AS rows_percent,
       round(100 * rs.tokens / sum(rs.tokens) OVER per_recipe, 3) AS tokens_percent
FROM recipe_sources rs WINDOW per_recipe AS (PARTITION BY rs.recipe) ORDER BY rs.recipe, rs.source;
