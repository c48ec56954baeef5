# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench docs site clean

demo: $(VENV)/installed
	$(BIN)/mlcv-bench flops resnext

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev
	$(BIN)/python -m cogapp -r docs/commands.md docs/counting.md
	$(BIN)/python docs/readme.py
	$(BIN)/mlcv-bench basins --surface himmelblau --optimizer momentum --size 800x600 --quiet -o docs/images/basins.png

# The site in build/site/html, which opens from the disk.
site: $(VENV)/installed-site
	$(BIN)/python docs/site.py
	$(BIN)/zensical build --config-file mkdocs.yml

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/run_all.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[page,races]'
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/installed

$(VENV)/installed-site: pyproject.toml constraints.txt $(VENV)/installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[page,site]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
