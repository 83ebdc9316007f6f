# All targets make the environment that they need, .venv, from a bare python3. PYTHON=python3.12 takes another Python.

PYTHON ?= python3
ARGS ?=

# Text that is printed is UTF-8, whatever the locale.
export PYTHONUTF8 = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

VENV := .venv
BIN := $(VENV)/bin
# One stamp an environment, named after the Python that it was made with: another Python makes it anew.
MADE := $(VENV)/made-with-$(subst /,-,$(PYTHON))

# What makes Grafana's dashboards needs a later Python than the exporter does.
SDK_RUNS = $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'

# Half of the time of all tests is spent waiting. The tests of a file share what they have set up.
SHARED_OUT = --numprocesses=auto --dist=loadfile

.PHONY: help demo test test-incidents check bench soak chaos fuzz docs dashboards picture incidents deb clean debian-packages debian-mtail debian-chromium debian-builders
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo    the exporter at work on a simulated qmail; ARGS=--demo.rate=20'
	@echo 'make test    all tests but the next; ARGS="-k log"'
	@echo 'make test-incidents  every incident, played to a real Prometheus and Alertmanager: some five minutes with nothing beside it'
	@echo 'make check   ruff and mypy'
	@echo 'make bench   the figures of docs/benchmarks.md; ARGS="--messages 100000"'
	@echo 'make chaos   ten minutes of random faults; ARGS="--seconds=3600 --seed=1"'
	@echo 'make fuzz    hostile bytes for all that reads some; ARGS="--seconds 300 http follow"'
	@echo 'make soak    days of simulated mail and mishaps; ARGS="--days 10 --seed 7"'
	@echo 'make docs    docs/metrics.md, the manual page, and the tables of other pages'
	@echo 'make dashboards deploy/grafana/dashboards, in Python 3.11 or later'
	@echo 'make picture docs/status.png, by a headless Chromium'
	@echo 'make incidents  docs/incidents.md, by a real Prometheus and Alertmanager; ARGS="outage hook"'
	@echo 'make deb     dist/qmail-exporter_*.deb, for Debian 12 and later'
	@echo 'make clean   remove what these made'

demo: $(MADE)
	@$(BIN)/python -m qmail_exporter demo $(ARGS)

test: $(MADE)-test debian-packages
	@$(MAKE) --no-print-directory $(MADE)-fuzz || echo 'Some tests will be skipped, for lack of: atheris'
	$(BIN)/python -m pytest $(SHARED_OUT) --ignore=$(PLAYED) $(ARGS)

# Played by a clock that runs 300 times as fast, and so with nothing beside it.
PLAYED = tests/incidents/test_incidents_played.py
test-incidents: $(MADE)-test debian-packages
	$(BIN)/python -m pytest $(PLAYED) $(ARGS)

check: $(MADE)-test $(MADE)-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(SDK_RUNS) || { echo "deploy/grafana/boards is left out: it takes Python 3.11"; exit 0; }; $(BIN)/mypy --python-version=3.11 deploy/grafana/boards

bench: $(MADE) debian-mtail
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

chaos: $(MADE)-test
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

fuzz: $(MADE)-test $(MADE)-fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

# The order of sets depends on hashes: with a seed of their own a run is the same each time.
soak: $(MADE)
	@PYTHONHASHSEED=0 PYTHONPATH=tests $(BIN)/python -m soak $(ARGS)

docs: $(MADE)
	$(BIN)/python docs/generate.py

dashboards: $(MADE)-dashboards
	@$(SDK_RUNS) || { echo 'The dashboards take Python 3.11 or later: make PYTHON=python3.12 dashboards' >&2; exit 1; }
	PYTHONPATH=deploy/grafana $(BIN)/python -W ignore::DeprecationWarning -m boards $(ARGS)

picture: $(MADE) debian-chromium
	PYTHONPATH=tests TZ=UTC $(BIN)/python docs/picture.py

incidents: $(MADE)-test debian-packages
	PYTHONPATH=tests $(BIN)/python -m incidents $(ARGS)

deb: $(MADE) debian-builders
	@PYTHON=$(BIN)/python deploy/debian/build

clean:
	rm -rf $(VENV) build dist .fuzz .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	find qmail_exporter tests docs deploy -name __pycache__ -prune -exec rm -rf {} +

# --- the environment

# Debian has what makes environments in a package of its own.
VENV_PACKAGE = $(shell $(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')

$(MADE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'Python 3.10 or later is needed: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call install,$(VENV_PACKAGE)); } \
	  || { echo 'To make an environment, install $(VENV_PACKAGE) first.' >&2; exit 1; }
	@echo 'Making $(VENV)'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --use-pep517 --editable .
	@touch $@

$(MADE)-%: $(MADE)
	@echo 'Installing what "make $*" needs'
	@$(BIN)/python -m pip install --quiet --use-pep517 --editable '.[$*]'
	@touch $@

# --- Debian's packages

# Install packages, in a shell: fails unless this is root on Debian and they are to be had.
install = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && export DEBIAN_FRONTEND=noninteractive \
  && echo 'Installing $(strip $(1))' \
  && { apt-get install -qq --no-install-recommends $(1) >/dev/null 2>&1 \
       || { apt-get update -qq && apt-get install -qq --no-install-recommends $(1) >/dev/null; }; }

# The packages, of those given as program=package, whose program is not there.
missing = $(strip $(foreach pair,$(1),$(call package-unless,$(subst =, ,$(pair)))))
package-unless = $(if $(shell command -v $(word 1,$(1)) 2>/dev/null),,$(word 2,$(1)))

debian-packages: LACKING = $(call missing,promtool=prometheus prometheus-alertmanager=prometheus-alertmanager multilog=daemontools svlogd=runit s6-svscan=s6 debootstrap=debootstrap dh=debhelper dh_python3=dh-python lintian=lintian strace=strace logrotate=logrotate setfacl=acl zsh=zsh fish=fish man=man-db chromium=chromium)
debian-packages:
	@[ -z '$(LACKING)' ] || { $(call install,$(LACKING)); } || echo 'Some tests will be skipped, for lack of: $(LACKING)'

debian-mtail: LACKING = $(call missing,mtail=mtail)
debian-mtail:
	@[ -z '$(LACKING)' ] || { $(call install,$(LACKING)); } || echo 'There will be no figures for the log, for lack of: $(LACKING)'

debian-chromium: LACKING = $(call missing,chromium=chromium)
debian-chromium:
	@[ -z '$(LACKING)' ] || { $(call install,$(LACKING)); } || { echo 'The picture takes $(LACKING).' >&2; exit 1; }

debian-builders: LACKING = $(call missing,dpkg-buildpackage=dpkg-dev dh=debhelper dh_python3=dh-python)
debian-builders:
	@[ -z '$(LACKING)' ] || { $(call install,$(LACKING)); } || { echo 'The package takes $(LACKING).' >&2; exit 1; }
