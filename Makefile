# The commands that the README names. `make demo` and `make test` need Python 3.10+ and make, nothing else.
#
#   make demo                                      from raw text to a Hugging Face model and a report, in minutes
#   make demo CORPUS=folder [TOKENIZER=file]       the same on your text (one folder or file for each language);
#                                                  also VOCAB_SIZE=8000, TOKENIZER_TYPE=SPMTokenizer, BOS=--prepend-bos
#   make test                                      lint, types and tests
#   make test-slow                                 the long proofs
#   make bench                                     speed beside the peers
#
# Options for pip (an index of CPU-only wheels, say) go into PIP_OPTIONS. Where all is installed already, as in an image
# of docker/, EMMA_NEOX_BIN is the folder of its `python`, and no environment is made.

PYTHON ?= python3
PIP_OPTIONS ?=
CORPUS ?=
TOKENIZER ?=
TOKENIZER_TYPE ?= SPMTokenizer
VOCAB_SIZE ?= 8000
BOS ?= --prepend-bos

BIN := $(or $(EMMA_NEOX_BIN),.venv/bin)
DEMO := demo
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

.PHONY: demo test tests test-slow lint types docs bench clean

ifneq ($(EMMA_NEOX_BIN),)
.venv/installed .venv/installed-test: ;
else
.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "emma-neox needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python requirements/requirements.txt setup.py
	$(BIN)/python -m pip install $(PIP_OPTIONS) --quiet -r requirements/requirements.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) --quiet --no-deps --editable .
	touch $@

.venv/installed-test: .venv/installed requirements/requirements-test.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) --quiet -r requirements/requirements-test.txt
	touch $@
endif

in_demo := $(filter $(realpath $(DEMO)) $(abspath $(DEMO)) $(abspath $(DEMO))/%,$(foreach path,$(CORPUS) $(TOKENIZER),$(abspath $(path)) $(realpath $(path))))
ifneq ($(in_demo),)
$(error CORPUS and TOKENIZER must lie outside the folder $(DEMO), which is made anew)
endif

# With text of your own there may be no code and no translations, so every source counts by its size.
demo_corpus := $(or $(CORPUS),$(DEMO)/corpus)
demo_tokenizer := $(or $(TOKENIZER),$(DEMO)/tokenizer.model)
demo_settings := $(if $(CORPUS),mixture.sources=null) \
	$(if $(TOKENIZER),vocab_file=$(TOKENIZER) tokenizer_type=$(TOKENIZER_TYPE))
step = @printf '\n\033[1m%s\033[0m\n' $(1)

demo: .venv/installed
	rm -rf $(DEMO)
ifeq ($(CORPUS),)
	$(call step,'1. a sample corpus of some 200 languages')
	$(BIN)/python tools/make_sample_corpus.py --output $(demo_corpus)
endif
ifeq ($(TOKENIZER),)
	$(call step,'2. a tokenizer')
	$(BIN)/python tools/train_tokenizer.py --input $(demo_corpus) --output $(demo_tokenizer) --vocab-size $(VOCAB_SIZE)
endif
	$(call step,'3. shards of tokens')
	$(BIN)/python tools/preprocess_data.py --input $(demo_corpus) --output-prefix $(DEMO)/shards \
		--tokenizer-type $(TOKENIZER_TYPE) --vocab-file $(demo_tokenizer) --append-eod $(BOS) --valid-bytes 4096
	$(call step,'4. the mixture')
	$(BIN)/python tools/plan_mixture.py configs/demo.yml $(demo_settings)
	$(call step,'5. training up to the middle')
	$(BIN)/python deepy.py train.py configs/demo.yml $(demo_settings)
	$(call step,'6. training resumed by the same command')
	$(BIN)/python deepy.py train.py configs/demo.yml $(demo_settings)
	$(call step,'7. a Hugging Face model')
	$(BIN)/python tools/convert_checkpoint.py --from native --to hf --input $(DEMO)/run --output $(DEMO)/model
	$(call step,'8. text')
	$(BIN)/python generate.py --model $(DEMO)/model --prompts-file configs/demo-prompts.txt \
		--maximum-tokens 40 --temperature 0.7 --top-p 0.9 --output $(DEMO)/run/samples.jsonl
	$(call step,'9. the report')
	$(BIN)/python tools/report.py $(DEMO)/run --output $(DEMO)/report.html --table
	@printf '\nmodel   %s\nreport  %s\n' $(DEMO)/model $(DEMO)/report.html

# Types are checked beside the tests, most of which leave a core idle.
test: .venv/installed-test lint
	$(MAKE) --no-print-directory --jobs 2 types tests

tests: .venv/installed-test
	$(BIN)/python -m pytest -q -m 'not slow and not gpu'

test-slow: .venv/installed-test
	$(BIN)/python -m pytest -q -m 'slow'

lint: .venv/installed-test
	$(BIN)/python -m ruff check .

types: .venv/installed-test
	$(BIN)/python -m mypy

docs: .venv/installed
	$(BIN)/python tools/config_reference.py

bench: .venv/installed-test
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf .venv $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
