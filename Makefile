# `make` lists the targets. PYTHON=... picks the Python that .venv is made with.

VENV := .venv
STAMP := $(VENV)/installed
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(if $(call new_enough,$p),$p)))
new_enough = $(shell $1 -c 'import sys; sys.version_info >= (3, 11) and print("yes")' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow test-reference test-tpu test-gpu-compile test-slurm test-cloud test-browser \
        test-extras test-notebooks notebooks lint docs dist clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(STAMP)  ## train on handwritten digits, here and now (CPU, a few minutes)
	$(VENV)/bin/python -m inr_gan_jax.main --config=configs/digits.py --workdir=runs/digits

test: $(STAMP)  ## run the tests (ARGS="-k checkpoint" picks some)
	$(VENV)/bin/python -m pytest $(ARGS)

test-slow: $(STAMP)  ## run the tests that take minutes each
	$(VENV)/bin/python -m pytest -m slow $(ARGS)

test-reference: $(STAMP)  ## compare metrics with PyTorch's implementations (installs PyTorch)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check \
	    torch==2.15.0 torchvision==0.29.2 torch-fidelity==0.4.0
	$(VENV)/bin/python -m pytest -m reference $(ARGS)

test-cloud: $(STAMP)  ## train in gs://, on an emulator of Google's storage (installs that)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
	    -e .[gcs] gcp-storage-emulator==2026.7.19
	$(VENV)/bin/python -m pytest -m cloud -n 0 $(ARGS)

test-tpu:  ## compile training and kernels for 4 to 256 TPU chips, without any (libtpu; 2 hours on 2 cores)
	@$(MAKE) --no-print-directory VENV=.venv-tpu .venv-tpu/installed
	.venv-tpu/bin/pip install --quiet --disable-pip-version-check -c constraints.txt 'jax[tpu]'
	.venv-tpu/bin/python -m pytest -m tpu -n 0 $(ARGS)

test-gpu-compile:  ## compile the programs of benchmarks.gpu for an H100, without any (5 GB; minutes)
	@$(MAKE) --no-print-directory VENV=.venv-gpu .venv-gpu/installed
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check -c constraints.txt 'jax[cuda13]'
	.venv-gpu/bin/python -m pytest -m gpu_compile -n 0 tests/doctor/test_gpu.py $(ARGS)

test-slurm: $(STAMP)  ## train on a Slurm cluster of one node, made here (Debian, as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	    munge slurmctld slurmd slurm-client >/dev/null
	$(VENV)/bin/python -m pytest -m slurm -n 0 tests/launch $(ARGS)

test-browser: $(STAMP)  ## all tests that need Chromium, which is installed (Debian, as root)
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	    chromium chromium-driver >/dev/null; }
	$(VENV)/bin/python -m pytest -m browser -n 0 $(ARGS)

test-extras: $(STAMP)  ## the tests that need a hub's, W&B's or MLflow's own library (installs these)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .[hf,wandb,mlflow]
	$(VENV)/bin/python -m pytest -n 0 tests/convert/test_sharing.py tests/train/test_mirrors.py $(ARGS)

test-notebooks: $(STAMP)  ## run the notebooks (installs a Jupyter kernel)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .[notebooks]
	$(VENV)/bin/python -m pytest -m notebooks -n 0 tests/test_notebooks.py $(ARGS)

notebooks: $(STAMP)  ## make notebooks/*.ipynb anew of their scripts
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .[notebooks]
	$(VENV)/bin/jupytext --quiet --update --to ipynb --set-kernel python3 \
	    notebooks/first_steps.py notebooks/geometry.py notebooks/any_scale.py

lint: $(STAMP)  ## check style and form of all Python (installs ruff)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check ruff==0.17.6
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

docs: $(STAMP)  ## build the documentation into build/docs (ARGS=serve shows it; installs mkdocs)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .[docs]
	$(VENV)/bin/mkdocs $(or $(ARGS),build --strict)

dist: $(STAMP)  ## make the wheel, in dist/
	rm -rf build dist
	$(VENV)/bin/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	    --wheel-dir=dist .
	@ls dist/*.whl

clean:  ## remove .venv, the wheel and caches; runs stay
	rm -rf $(VENV) .venv-tpu .venv-gpu build dist .pytest_cache .hypothesis .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once, and again when what is to be installed changes.
$(STAMP): requirements.txt pyproject.toml
	@test -x $(VENV)/bin/pip || $(MAKE) --no-print-directory $(VENV)
	@echo "Installing JAX and the rest into $(VENV): 1.2 GB on disk, one to five minutes ..."
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: $(VENV)
$(VENV):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later found;" \
	    "install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -n "$(call new_enough,$(PYTHON))" || { echo "error: PYTHON=$(PYTHON)" \
	    "is not Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make" \
	    "virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV)
