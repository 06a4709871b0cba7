-- Where is every token? tokens = in the plan + excluded + held out + left over + dropped + arrived later.
FROM conservation ORDER BY recipe, source;
