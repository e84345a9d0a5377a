# On a fresh machine with Python 3.11+, pip and venv: `make demo` and `make test` are all the set-up there is.
PYTHON ?= python3
BOOTSTRAP := .uv
UV := $(shell command -v uv 2>/dev/null || echo $(BOOTSTRAP)/bin/uv)
RUN := .venv/bin
DEMO ?= demo

.PHONY: env demo test lint docs clean

env: .venv/.synced

$(BOOTSTRAP)/bin/uv:
	$(PYTHON) -m venv $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/pip install --quiet uv

# The environment is as the lock file says; it is made anew only when that or the project's metadata changed.
.venv/.synced: uv.lock pyproject.toml $(if $(filter $(BOOTSTRAP)/bin/uv,$(UV)),$(BOOTSTRAP)/bin/uv)
	$(UV) sync --frozen
	touch $@

demo: env
	PATH="$(CURDIR)/$(RUN):$$PATH" $(RUN)/python -m clipmused_bids.simulation.demo $(DEMO)

test: env
	OMP_NUM_THREADS=1 $(RUN)/pytest -n 2 --dist loadscope --cov --cov-report=term:skip-covered

lint: env
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports

docs: env
	$(RUN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv $(BOOTSTRAP) $(DEMO) docs/_build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
