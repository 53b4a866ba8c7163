# Two commands do all the set-up: `make run` and `make test`.
# TORCH_INDEX chooses torch's package index, for instance
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu      (no GPU: a small download)
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cu128    (CUDA 12.8)
# Without it, pip's own index is used.

PYTHON ?= python3
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check clean

run: .venv/installed
	@if [ -t 0 ] && [ -t 1 ]; then .venv/bin/minimind-tui --starter; else .venv/bin/engine starter; fi

test: .venv/installed-test check
	.venv/bin/python -m pytest -q

check: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

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
