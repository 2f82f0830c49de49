.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m lrtl_utils
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## Say what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/installed: requirements.txt pyproject.toml
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

install: .venv/installed ## Make .venv from requirements.txt, the package in it editable

demo: RESULTS ?= results/demo
demo: .venv/installed ## Run the demo grid and answer the four questions (under 4 minutes; a second time, seconds)
	$(RUN) sweep notebooks/grids/demo.yaml --results $(RESULTS) --workers 2
	@$(RUN) summary $(RESULTS) > $(RESULTS)/pictures.txt
	@$(RUN) report $(RESULTS)
	@echo "Your own data next: $(BIN)/lrtl compare my.csv --budget 10"

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
SIDE_BY_SIDE := -n 2 --dist loadscope --no-loadscope-reorder

test: lint unit integration e2e ## Lint, and the tests of every tier but the nightly one

unit: .venv/installed ## The unit tests: no torch, no processes
	$(PYTEST) $(SIDE_BY_SIDE) tests/unit

integration: .venv/installed ## The tests with tiny checkpoints
	$(PYTEST) $(SIDE_BY_SIDE) --durations=20 tests/integration

E2E := build/e2e
e2e: .venv/installed ## Real processes, and nbval over a copy of every notebook, beside which it writes its records
	rm -rf $(E2E) && mkdir -p $(E2E) && git ls-files -z notebooks results | tar --null -T - -cf - | tar -xf - -C $(E2E)
	$(PYTEST) $(SIDE_BY_SIDE) -p nbval --nbval-lax --nbval-cell-timeout 120 -p no:cacheprovider tests/e2e $(E2E)/notebooks

nightly: .venv/installed ## Fuzz, unsafe input, browser, pages of docs run whole, the golden checks
	$(PYTEST) $(SIDE_BY_SIDE) tests/nightly
	$(PYTEST) $(SIDE_BY_SIDE) -m slow tests
	$(MAKE) trackers peers-tests

faults: .venv/installed ## Kill processes, fill disks and truncate files during runs, for LRTL_FAULT_MINUTES (20)
	$(BIN)/python -m pytest -q -m faults tests/nightly/test_faults.py

gpu: .venv/installed ## The tests that need a CUDA device
	$(BIN)/python -m pytest -q -m gpu tests

.venv/%/bin/python: | .venv/installed # an environment over .venv, for packages that would change what is there
	$(BIN)/python -m venv .venv/$*
	echo $(abspath $(SITE)) > $$($@ -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/installed.pth

trackers: .venv/trackers/bin/python ## The tests of MLflow and trackio, which hold back packages of .venv
	$< -m pip install --quiet 'mlflow>=3,<4' 'trackio>=0.40,<1'
	OMP_NUM_THREADS=1 $< -m pytest -q tests/nightly/test_trackers.py

peers-tests: .venv/peers/bin/python ## The tests of SetFit and MTEB's probe, in an environment that has SetFit
	$< -m pip install --quiet 'sentence-transformers>=5,<7' 'setfit>=1.2,<2'
	OMP_NUM_THREADS=1 $< -m pytest -q tests/nightly/test_peers.py

peers: RESULTS ?= results/recipe-2
peers: .venv/peers/bin/python peers-tests ## SetFit and MTEB's probe beside the runs of linear_probe in RESULTS (hours; resumes)
	OMP_NUM_THREADS=1 $< -m lrtl_utils.study.benchmarks.peers $(RESULTS)

lint: .venv/installed ## Check format, lint and imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/hadolint .ci/Containerfile

DOCS ?= build/docs
docs: .venv/installed ## Build the pages as a static site, build/docs/site; a broken link is an error
	rm -rf $(DOCS) && mkdir -p $(DOCS)/pages
	git ls-files -z '*.md' '*.css' '*.png' '*.py' '*.yaml' '*.cff' | tar --null -T - -cf - | tar -xf - -C $(DOCS)/pages
	$(BIN)/jupyter nbconvert --log-level WARN --to markdown --output-dir $(DOCS)/pages/notebooks notebooks/2*.ipynb
	find $(DOCS)/pages -name '*.md' -exec perl -pi -e 's/\.ipynb\)/.md)/g' {} +
	cp docs/mkdocs.yml $(DOCS)
	$(BIN)/zensical build --strict --config-file $(DOCS)/mkdocs.yml

lock: ## Write .ci/constraints.txt anew: the versions that pip takes today (Linux on x86-64, Python 3.11)
	python3.11 -m venv --clear build/lock
	build/lock/bin/pip install --quiet --requirement requirements.txt
	build/lock/bin/pip freeze | sed 's/+cpu$$//' > .ci/constraints.txt

recipe: .venv/installed ## Run every setting of the recipe on the development sets (days; resumes), and write their table
	$(BIN)/python tests/support/changed_copies.py $(addprefix ../shared/dev/,emotion hwu64_10 sst5 crossner_science wnut17)
	$(RUN) sweep notebooks/grids/recipe_2.yaml --results results/recipe-2 --workers 2 --no-cache
	$(RUN) sweep notebooks/grids/recipe_2_bf16.yaml --results results/recipe-2/bf16 --workers 2 --no-cache
	$(BIN)/python -m lrtl_utils.study.benchmarks.recipe results/recipe-2

study: .venv/installed ## Run the committed study's grid (days; resumes; needs LRTL_MIRROR) and make its pictures
	$(RUN) confirm study
	$(RUN) figures

figures: .venv/installed ## Make the committed pictures and summary notebooks anew from the committed records
	$(RUN) figures

report: RESULTS ?= results/study
report: .venv/installed ## A static site of RESULTS (results/study): the answers, every run, the summary notebooks
	$(RUN) report $(RESULTS)

ADVISORIES := https://pypi.org/pypi/pip/25.0/json  # pip-audit reads such a page of each release
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

audit: .venv/installed ## Look up what is installed among the known vulnerabilities (needs pypi.org)
	@$(BIN)/python -c "import sys, urllib.request as web; web.urlopen(sys.argv[1], timeout=10)" $(ADVISORIES) 2>/dev/null \
		|| { echo "Nothing was looked up: pypi.org and its list of vulnerabilities cannot be read from here." >&2; exit 1; }
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit && .venv/audit/bin/pip install --quiet pip-audit; }
	.venv/audit/bin/pip-audit --skip-editable --path $(SITE)

BASE ?= HEAD
ROUNDS ?= 3
speed: .venv/installed ## Measure the overhead of commands at the commit BASE and now (a quarter of an hour a round)
	@PYTHONPATH=. $(BIN)/python -u tests/support/speed.py $(BASE) $(ROUNDS)

lab: .venv/installed ## Open JupyterLab on loopback, with its token
	$(BIN)/jupyter lab --ip 127.0.0.1 --notebook-dir .

clean: ## Remove what a test or a build left; results and .venv stay
	rm -rf .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: help audit install demo trackers test unit integration e2e nightly faults gpu lint docs lock study figures report
.PHONY: recipe speed peers peers-tests lab clean
