-- How many tokens do the weights of each run hold a second time or more, of which recipe?
SELECT run, recipe, rows_seen, distinct_rows, tokens_in_weights, reseen_tokens,
       round(100 * reseen_tokens / tokens_in_weights, 2) AS reseen_percent
FROM reseen ORDER BY run, recipe;
