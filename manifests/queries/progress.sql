-- How far is each run, and what did it compute in vain?
FROM progress ORDER BY run;
