"""Serve: runs answer over HTTP, in OpenAI's words and on a page. `python -m train.serve --run R`."""
