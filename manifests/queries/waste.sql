-- What does a recipe waste? Fill is the share of targets that are tokens; repeats are not new tokens.
SELECT recipe, strategy, plan_rows, tokens, pad_tokens, dropped_tokens, split_documents,
       round(100 * tokens / (tokens + pad_tokens), 4) AS fill_percent,
       round(loss_tokens / plan_rows, 1) AS loss_tokens_per_row,
       tokens - (SELECT sum(unique_tokens) FROM recipe_sources s WHERE s.recipe = r.recipe) AS repeated_tokens
FROM recipes r ORDER BY recipe;
