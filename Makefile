# Two commands are enough: make run, make test. Both make .venv and install what they need.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: run test lint bench shot clean system
.DEFAULT_GOAL := run

system:
	@sh assets/system.sh $(PYTHON)

$(VENV)/run.stamp: requirements.txt | system
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Built ahead, in seconds. Where the system has no compiler, one is installed into .venv (100 MB).
$(VENV)/kernels.stamp: $(wildcard engine/*/*.cpp engine/*/*.h engine/*/native/*.cpp engine/*/native/*.h) engine/kernels/build.py $(VENV)/run.stamp
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check ziglang==0.17.1
	$(PY) -m engine.kernels.build
	@touch $@

run: $(VENV)/run.stamp $(VENV)/kernels.stamp
	$(PY) main.py

test: $(VENV)/dev.stamp $(VENV)/kernels.stamp
	QT_QPA_PLATFORM=offscreen $(PY) -m pytest -n 2 --dist worksteal
	@$(MAKE) --no-print-directory lint

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

shot: $(VENV)/run.stamp
	$(PY) main.py shot out/shots
	cp out/shots/running-dark-1440x900.png assets/window.png

bench: $(VENV)/dev.stamp
	@for file in tests/benchmarks/[a-z]*.py; do echo "== $$file"; $(PY) $$file || exit 1; done

clean:
	rm -rf $(VENV) out
