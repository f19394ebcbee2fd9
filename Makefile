# What one does with a checkout. Everything is installed into .venv from hash-locked requirements.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cat requirements/base.txt | cksum | cut -d' ' -f1)
DEV_STAMP := $(VENV)/.dev-$(shell cat requirements/dev.txt | cksum | cut -d' ' -f1)

.PHONY: demo test heavy marathon bench check lock clean

demo: $(STAMP)  ## take a simulated call and show it
	$(RUN) main.py demo $(ARGS)

test: $(DEV_STAMP) check  ## lint, types, and every test that is not heavy
	$(RUN) -m pytest -m "not heavy and not marathon" $(ARGS)

heavy: $(DEV_STAMP)  ## chaos, fuzz and contract suites
	$(RUN) -m pytest -m heavy $(ARGS)

marathon: $(DEV_STAMP)  ## what takes half an hour and more, for before a release
	$(RUN) -m pytest -m marathon $(ARGS)

check: $(DEV_STAMP)  ## format, lint, strict types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(DEV_STAMP)  ## every benchmark with its bars
	$(RUN) main.py bench all $(ARGS)

lock:  ## write the hash-locked requirements anew
	uv pip compile pyproject.toml --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -q -o requirements/base.txt
	uv pip compile pyproject.toml --extra dev --extra bench --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -q -o requirements/dev.txt

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Ringdown needs Python 3.11 or later: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(VENV)/bin/python requirements/base.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
	@touch $@

$(DEV_STAMP): $(VENV)/bin/python requirements/dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@ $(STAMP)

clean:  ## remove what running left behind
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis
