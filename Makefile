# make demo   try it on the shipped recordings            make lint    style, types, layering
# make test   all checks, as CI runs them                 make bench   speed beside HolisticTraceAnalysis
# make derived  rewrite the files that are derived        make clean   remove everything that was made here
# make faults  real jobs with real faults, three of each kind; ten minutes on a quiet machine
# make soak    agent, service and dashboard for two hours: does memory grow, is a window missed
# make fuzz    damaged inputs for every parser, new ones with FUZZ_FLAGS="--seed 7"; see tests/fuzz
# make matrix  every part with every fault around it, as a table of outcomes; five minutes
# make pictures  take the pictures of the documentation anew, with Chromium
# make docs    the documentation as a site, in build/site
# make dist    what is released, in dist/: wheel, source archive, bill of materials, checksums; the same bytes each time
# make newcomer  all that README, tutorial and how-tos tell to type, in a fresh copy and environment
# make coverage the tests again, with coverage of 90 % at least; it takes twice as long

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$python >/dev/null 2>&1 || continue; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$python; break; }; done)
AS_ROOT = $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT = $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get
TOOLS = browser prometheus slurm site-tools
BROWSER = $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
PIP_FLAGS ?= --disable-pip-version-check --quiet --no-compile
TEST = .venv-test/bin
export PIP_NO_INPUT = 1
unexport PYTHONDONTWRITEBYTECODE  # hundreds of commands are started, and each would compile all that it imports

.PHONY: demo test coverage lint style types faults fuzz soak matrix newcomer docs pictures dist bench derived clean check-python tools $(TOOLS)
.DEFAULT_GOAL := demo

demo: .venv/.installed
	.venv/bin/skewscope demo $(DEMO_FLAGS)

# Tests that live through real time, or train real jobs, get the cores first; the others have what they leave, and types
# are checked beside both. What the first say is printed when they are done.
LIVE = tests/watch/end_to_end tests/test_real_jobs.py tests/test_spool_jobs.py tests/test_resplit_jobs.py tests/faults \
	tests/hook tests/agents tests/actuators tests/coding/test_coded_training.py
PYTEST = $(TEST)/python -m pytest --dist loadfile --no-loadscope-reorder --durations=12 $(PYTEST_FLAGS)

test: check-python
	@$(MAKE) --no-print-directory -j 2 tools .venv-test/.installed
	@$(MAKE) --no-print-directory style
	@mkdir -p build
	$(PYTEST) -n 2 $(LIVE) > build/live.log 2>&1 & live=$$!; \
	nice -n 15 $(MAKE) --no-print-directory types & types=$$!; \
	nice -n 15 $(PYTEST) -n 2 $(LIVE:%=--ignore=%); rest=$$?; \
	wait $$live; live=$$?; cat build/live.log; \
	wait $$types && [ $$live = 0 ] && [ $$rest = 0 ]

coverage: browser prometheus slurm .venv-test/.installed
	$(TEST)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(PYTEST_FLAGS)

lint: style types

style: .venv-test/.installed
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .

types: .venv-test/.installed
	$(TEST)/mypy
	$(TEST)/lint-imports

faults: .venv-test/.installed
	$(TEST)/python -m pytest -m faults tests/faults $(PYTEST_FLAGS)

fuzz: .venv-test/.installed
	$(TEST)/python tests/fuzz/fuzz.py $(FUZZ_FLAGS)

docs: site-tools .venv-test/.installed
	$(TEST)/python docs/make_reference.py
	mkdocs build --quiet --strict --config-file docs/mkdocs.yml

pictures: browser .venv-test/.installed
	$(TEST)/python docs/make_pictures.py

dist: .venv-test/.installed
	rm -rf dist
	$(TEST)/python docs/make_dist.py

newcomer: .venv-test/.installed prometheus slurm
	rm -rf build/newcomer
	git clone --quiet . build/newcomer
	@start=$$(date +%s); $(MAKE) -C build/newcomer demo DEMO_FLAGS=--no-open && \
	echo "$$(($$(date +%s) - start)) s  make demo, from nothing"
	SKEWSCOPE_NEWCOMER_BIN=$(CURDIR)/build/newcomer/.venv/bin $(TEST)/python -m pytest -m newcomer tests/newcomer $(PYTEST_FLAGS)

soak: .venv-test/.installed
	$(TEST)/python -m pytest -m soak tests/soak -s $(PYTEST_FLAGS)

matrix: .venv-test/.installed
	$(TEST)/python -m pytest -m "matrix or not matrix" tests/fault_matrix -rA $(PYTEST_FLAGS)

bench: .venv-bench/.installed
	.venv-bench/bin/python -m pytest -m benchmark tests/benchmarks -s $(PYTEST_FLAGS)

derived: .venv-test/.installed
	$(TEST)/skewscope conditions --readme > detectors/README.md
	$(TEST)/skewscope metrics --readme > agents/METRICS.md
	$(TEST)/python docs/make_man.py

clean:
	rm -rf .venv-test .venv-bench .venv/.installed build dist *.egg-info skewscope-report .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .bench

# One stamp per environment; it is old when pyproject.toml is newer.
.venv/.installed: EXTRA = all
.venv-test/.installed: EXTRA = test
.venv-bench/.installed: EXTRA = bench
.venv/.installed .venv-test/.installed .venv-bench/.installed: pyproject.toml | check-python
	@echo "Installing into $(@D) (a few minutes the first time) ..."
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install $(PIP_FLAGS) -e '.[$(EXTRA)]'
	@[ $(EXTRA) != test ] || $(@D)/bin/python -m compileall -qq -j 2 -x '/tests?/' $(@D)/lib || true  # once, not in each worker
	@touch $@

check-python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "python3-venv is missing; installing it with apt-get ..." >&2; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends python3-venv \
		"$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
	} || { echo "could not install it: run 'apt-get install python3-venv' as root, then make again" >&2; exit 2; }

# One after the other: apt-get locks its lists.
tools:
	@for tool in $(TOOLS); do $(MAKE) --no-print-directory $$tool; done

# The page tests look at the report in a real browser; the agent's tests are scraped by a real Prometheus, and alerts travel for real.
browser:
	@[ -n "$(BROWSER)" ] || { \
		echo "chromium is missing; installing it with apt-get ..." >&2; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends chromium; \
	} || echo "no browser could be installed: the page tests that need one are skipped" >&2

prometheus:
	@(for tool in prometheus promtool prometheus-alertmanager amtool victoria-metrics vmalert; do \
		command -v $$tool >/dev/null 2>&1 || exit 1; done) || { \
		echo "prometheus or what belongs to it is missing; installing it with apt-get ..." >&2; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends prometheus prometheus-node-exporter \
		prometheus-alertmanager victoria-metrics gcc libc6-dev; \
	} || echo "no Prometheus could be installed: the tests that need one are skipped" >&2

site-tools:
	@command -v mkdocs >/dev/null 2>&1 || { \
		echo "mkdocs is missing; installing it with apt-get ..." >&2; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends mkdocs-material; \
	} || echo "no mkdocs could be installed: the site is not built" >&2

# The scheduler's tests drain, requeue and resume on a real Slurm of eight virtual nodes.
slurm:
	@(for tool in slurmctld slurmd scontrol srun slurmrestd munged; do \
		command -v $$tool >/dev/null 2>&1 || [ -x /usr/sbin/$$tool ] || exit 1; done) || { \
		echo "slurm is missing; installing it with apt-get ..." >&2; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends slurmctld slurmd slurm-client slurmrestd \
		slurm-wlm-basic-plugins slurm-wlm-jwt-plugin munge; \
	} || echo "no Slurm could be installed: the tests that need one are skipped" >&2
