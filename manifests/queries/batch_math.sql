-- Is a step as many tokens as its factors say?
FROM batch_math ORDER BY run;
