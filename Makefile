# Needs make and a Python from 3.11 to 3.14. Everything else goes into .venv, one group of dependencies after the other as a
# target asks for it; a .venv that is there already, made by hand or by another tool, is used as it is.
#
#   make demo     what it is, in a terminal; ENGINE=opensearch runs it on a real OpenSearch
#   make test     the tests; ARGS="-k breaker" chooses some
#   make full     what takes long, with its date and result in docs/full.md: tests marked full, soak, faults (an hour or two)
#   make soak     ten kills of a worker over 100,000 events; two of workers and backfill over 1.5 M purchases and 2 M events;
#               the memory of a process over a million searches in each mode, for docs/cost.md (at most three hours)
#   make lint     formatting, lint, types
#   make bench    the figures of docs/measured.md, and at the end the table of goals of docs/cost.md, all measured anew
#   make cost     what a search costs beside other ways to make one, for docs/cost.md (about an hour; resumes; ARGS="--part ways-1")
#   make bench-quick   counted work and ratios of both modes, against committed bounds (2 minutes)
#   make season   a simulated season through the real pipeline; writes docs/season.md (under 20 minutes on two free cores)
#   make faults   everything that can go wrong, made to, under load; writes the tables of docs/safety.md and docs/elasticsearch.md (an hour)
#   make site     the documentation as a site in .site/, to be read and searched offline
#   make docs     the tables in docs/ and the JSON Schemas, made from the code
#   make clean    back to a fresh clone
#   make help     these lines

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CANDIDATES := python3.13 python3.12 python3.11 python3.14 python3
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))
PYTHON ?= $(shell for python in $(CANDIDATES); do "$$python" -c '$(FITS)' 2>/dev/null && echo "$$python" && break; done)
ENGINE ?= osmem
ARGS ?=
WITH_ENGINES := tests/live tests/engines tests/packaging

.DEFAULT_GOAL := test
.PHONY: demo test full soak lint bench cost bench-quick season faults docs site clean help

demo: $(READY)-demo
	ENGINE=$(ENGINE) $(BIN)/rewriter demo $(ARGS)

# Without ARGS: the tests without an engine, two at a time; then the others one after another, since many measure time.
test: $(READY)-test
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n 2 $(WITH_ENGINES:%=--ignore=%)
	$(BIN)/python -m pytest $(WITH_ENGINES)
else
	$(BIN)/python -m pytest $(ARGS)
endif

full: $(READY)-test $(READY)-bench
	$(BIN)/python -m tests.full_run $(ARGS)

soak: $(READY)-test $(READY)-bench
	SOAK_EVENTS=100000 $(BIN)/python -m pytest tests/live/test_ingest_faults.py -k killed $(ARGS)
	SOAK_YEAR=1 $(BIN)/python -m pytest -s tests/live/test_backfill_soak.py $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m bench.cost.soak)

lint: $(READY)-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)-bench
	$(BIN)/python -m bench $(ARGS)

cost: $(READY)-bench
	$(BIN)/python -m bench.cost $(ARGS)

bench-quick: $(READY)-bench
	$(BIN)/python -m bench.quick $(ARGS)

season: $(READY)-bench
	$(BIN)/python -m season $(ARGS)

faults: $(READY)-bench
	$(BIN)/python -m bench.faults $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m bench.faults --engine elasticsearch)

docs: $(READY)-test
	$(BIN)/python -m tests.reasons_page
	$(BIN)/python -m tests.schema_files
	$(BIN)/python -m tests.versions

site: $(READY)-test
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d .site/.doctrees docs .site
	@echo "make: open .site/index.html"

help:
	@sed -n 's/^#   make /make /p' Makefile

# A .venv that make did not make is not make's to remove; what make put into it can stay.
clean:
	if [ -e $(VENV)/.made-by-make ]; then rm -rf $(VENV); else rm -f $(READY)-*; fi
	rm -rf .site .opensearch .toxiproxy .corpus .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -path ./$(VENV) -prune -o -name __pycache__ -exec rm -rf {} +

# .venv/bin/python comes first, so it may be missing, or lead nowhere since the Python it was made from is gone.
$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python from 3.11 to 3.14 found ($(CANDIDATES)); install one, or say PYTHON=/path/to/python" >&2; exit 1; fi
	@"$(PYTHON)" -c '$(FITS)' || { echo "make: $(PYTHON) is not a Python from 3.11 to 3.14" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); echo "make: no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $(VENV)/.made-by-make

# Groups of dependencies (--group) came with pip 25.1; the pip that came with Python is older, and uv leaves it out.
$(READY)-pip: | $(BIN)/python
	@$(BIN)/python -c '$(FITS)' || { echo "make: $(VENV) holds a Python that is not 3.11 to 3.14; remove it, and make will make another" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	@$(BIN)/python -m pip install --upgrade 'pip>=25.1'
	@touch $@

# The second package of this repository comes first: nothing is published, so pip must find it installed when the first asks for it.
$(READY)-engines: engines/pyproject.toml | $(READY)-pip
	@$(BIN)/python -m pip install --editable ./engines
	@touch $@

$(READY)-demo: pyproject.toml $(READY)-engines | $(READY)-pip
	@echo "make: installing what demo needs into $(VENV)"
	@$(BIN)/python -m pip install --editable '.[demo]'
	@touch $@

$(READY)-test $(READY)-lint $(READY)-bench: $(READY)-%: pyproject.toml $(READY)-engines | $(READY)-pip
	@echo "make: installing what $* needs into $(VENV)"
	@$(BIN)/python -m pip install --editable . --group $*
	@touch $@
