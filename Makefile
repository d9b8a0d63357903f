PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes: what one has compiled is kept for the others, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: quickstart test test-harness lint lock

quickstart: $(STAMP)
	$(BIN)/pomona run examples/quickstart.yaml

test: $(STAMP)
	OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

# lm-eval brings three dozen packages that nothing else needs, and transformers' Trainer imports peft
# wherever it finds it, in half a second: they go beside the locked ones.
HARNESS := .venv/harness
test-harness: $(STAMP)
	test -x $(HARNESS)/bin/python || $(BIN)/python -m venv $(HARNESS)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$($(HARNESS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/locked.pth
	$(HARNESS)/bin/python -m pip install --quiet --constraint requirements.lock "lm-eval==0.4.13" "peft==0.21.2"
	OMP_NUM_THREADS=1 $(HARNESS)/bin/python -m pytest tests/tasks tests/recipe/test_harness.py tests/markers/test_lora.py $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

lock: $(STAMP)
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu$$//' > requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Pomona needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
