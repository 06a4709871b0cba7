# Quern: every target is a command you can also type. `make` alone explains them.
PYTHON    ?= python3
PY        := .venv/bin/python
SOURCE    ?= fineweb-edu
TOKENIZER ?= gpt2
OPTIONS   := $(if $(CATALOGUE),--catalogue "$(CATALOGUE)") $(if $(WORKERS),--workers $(WORKERS)) $(if $(VOCAB_FILE),--vocab-file "$(VOCAB_FILE)")

.DEFAULT_GOAL := help
.PHONY: help install demo shards verify test lint types tests torture bench readme clean

help: ## this page
	@echo "Quern mills text into exact token budgets and trains on nothing but those tokens."
	@echo
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo
	@echo "  begin with: make demo"

install: .venv/.installed ## make .venv and install Quern into it

demo: install ## no downloads: corpus, bins, a 70:30 plan, two stages of training, an answer, and what was learned
	$(PY) -m dataprep.bpe --name python-8k --size 8192 --sources python-docs,python-qa
	$(PY) -m dataprep.shards --source python-docs --n 3 --tokenizer python-8k
	$(PY) -m dataprep.shards --source python-qa --n 1 --tokenizer python-8k
	$(PY) -m dataprep.pack --mix 70:30 --sources python-docs,python-qa --tokenizer python-8k --name demo --seq-len 256 --tokens 600K
	.venv/bin/torchrun --standalone --nproc_per_node=1 train/main.py --manifest --recipe demo --run-name demo --model tiny --prompt "Return the"
	$(PY) -m dataprep.pack --mix 30:70 --sources python-docs,python-qa --tokenizer python-8k --name demo-chat --seq-len 256 --tokens 300K --strategy best-fit --loss assistant --attention document
	.venv/bin/torchrun --standalone --nproc_per_node=1 train/main.py --manifest --recipe demo-chat --run-name demo-chat --parent demo --stage midtrain --model tiny --prompt "What does json.loads do?"
	$(PY) -m dataprep.sql --file manifests/queries/tokens_per_source.sql
	$(PY) -m dataprep.sql --file manifests/queries/seen.sql
	$(PY) -m dataprep.sql --file manifests/queries/bits_per_byte_by_stage.sql
	$(PY) -m train.chat --run demo-chat --temperature 0 --max-tokens 48 --prompt "What does json.loads do?"

shards: install ## N=178 [SOURCE=fineweb-edu] [WORKERS=2] [TOKENIZER=gpt2] [CATALOGUE=my.toml]
	@test -n "$(N)" || { echo "error: make shards needs N, the number of train shards"; echo "  fix:  make shards N=178"; exit 2; }
	$(PY) -m dataprep.shards --source $(SOURCE) --n $(N) --tokenizer $(TOKENIZER) $(OPTIONS)

verify: install ## check every invariant of what is on disk, every byte hashed
	$(PY) -m dataprep.verify --full

test: lint types tests ## everything CI runs: lint, types, import contracts, all tests

lint: .venv/.tested
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-cache
	.venv/bin/deptry .

types: .venv/.tested
	.venv/bin/pyright

tests: .venv/.tested
	$(PY) -m pytest

torture: .venv/.tested ## [KILLS=1000] [ONLY=kills,disk]: real faults, one table; exit 1 if anything is lost
	$(PY) tests/torture/run.py $(if $(KILLS),--kills $(KILLS)) $(if $(ONLY),--only "$(ONLY)")

bench: install ## [ONLY=encode|load|pack|start] [SIZE=250M] [TEXT=folder] [ROUNDS=3]: ours beside the peers, docs/benchmarks.md
	$(PY) tests/bench/run.py $(if $(ONLY),--only "$(ONLY)") $(if $(SIZE),--size $(SIZE)) $(if $(TEXT),--text "$(TEXT)") $(if $(ROUNDS),--rounds $(ROUNDS))

readme: install ## run the demo again and put its real output into README.md
	$(PY) docs/regenerate.py

clean: ## remove .venv and caches; data/, manifests/ and runs/ stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed"; $(PYTHON) --version; echo "  fix:  make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 5; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/.tested: .venv/.installed
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@
