-- What does a recipe waste? Fill is the share of targets that are tokens.
SELECT recipe, strategy, plan_rows, tokens, pad_tokens, dropped_tokens, split_documents,
       round(100 * tokens / (tokens + pad_tokens), 4) AS fill_percent
FROM recipes ORDER BY recipe;
