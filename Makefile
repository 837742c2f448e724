# make run · make test · make lint · make bench: each makes its own environment first.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(p)),$(p))))
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test lint bench dashboards metrics lock clean

help:
	@echo "make run [LOCAL=1]   serve on http://127.0.0.1:4100 with the policies in policies/"
	@echo "make test            every test, with real parts"
	@echo "make lint            ruff, mypy, import-linter"
	@echo "make bench           throughput and added time, beside the upstream called directly"
	@echo "make dashboards      build grafana/dashboards/ anew, after a change in grafana/*.py"
	@echo "make metrics         write the table in docs/metrics.md anew, after a change in router/metrics/"
	@echo "make lock            pin the dependencies anew (needs uv)"

# One stamp for each set of packages: an install is repeated only where its lock has changed.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "farthing needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("farthing needs Python 3.11 or newer, not %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing what $< pins into $(VENV), which takes a minute or two"
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --no-deps --no-build-isolation --editable . 2>/dev/null || $(PIP) install --no-deps --editable .
	@touch $@

run: $(VENV)/$(if $(LOCAL),local,run).stamp
	@$(BIN)/farthing serve --policies policies --simulate auto $(if $(LOCAL),--local)

# Half of the time of most tests is waiting, so that each core has a process; a file's tests share what it started.
ALL := --numprocesses logical --maxprocesses 4 --dist loadfile
test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(or $(ARGS),$(ALL))

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check router tests bench grafana
	$(BIN)/ruff format --check router tests bench grafana
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev.stamp
	$(BIN)/python -m bench

dashboards: $(VENV)/dev.stamp
	$(BIN)/python -m grafana

metrics: $(VENV)/dev.stamp
	$(BIN)/python -m router.metrics docs/metrics.md

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
lock:
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) pyproject.toml --extra local -c requirements/run.txt -o requirements/local.txt
	$(COMPILE) pyproject.toml --extra local --group dev -c requirements/local.txt -o requirements/dev.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
