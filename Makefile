# Two commands do all the set-up: `make run` and `make test`.
# TORCH_INDEX chooses torch's package index, for instance
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu      (no GPU: a small download)
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cu128    (CUDA 12.8)
# Without it, pip's own index is used.

PYTHON ?= python3
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check proof clean

run: .venv/installed
	@if [ -t 0 ] && [ -t 1 ]; then .venv/bin/minimind-tui --starter; else .venv/bin/engine starter; fi

# Some tests watch real clocks, processes and the edge of memory; one that fails on a busy machine is tried again, and
# the summary counts it.
test: .venv/installed-test check
	.venv/bin/python -m pytest -q -n 2 --dist loadfile --reruns 2 --ignore tests/tui
	.venv/bin/python -m pytest -q -n 4 --reruns 2 tests/tui

check: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

# What every stage learns on the starter world, three seeds one after the other; interrupted, it goes on where it ended.
proof: .venv/installed
	-.venv/bin/engine bench ladder --seed 0
	-.venv/bin/engine bench ladder --seed 1
	-.venv/bin/engine bench ladder --seed 2
	.venv/bin/engine bench ladder --summary

.venv/torch: constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@touch $@

.venv/installed: .venv/torch pyproject.toml
	$(PIP) -e .
	@touch $@

.venv/installed-test: .venv/torch pyproject.toml
	$(PIP) -e '.[test]'
	@touch .venv/installed $@

clean:
	rm -rf .venv
