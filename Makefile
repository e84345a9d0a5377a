# On a fresh machine with Python 3.11+, pip and venv: `make demo` and `make test` are all the set-up there is.
PYTHON ?= python3
BOOTSTRAP := .uv
UV := $(shell command -v uv 2>/dev/null || echo $(BOOTSTRAP)/bin/uv)
RUN := .venv/bin
DEMO ?= demo
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' clipmused_bids/__init__.py)
IMAGE ?= clipmused-bids:$(VERSION)
ENGINE ?= $(notdir $(firstword $(shell command -v podman) $(shell command -v docker) $(shell command -v buildah)))
REGIONS := derivatives/fmriprep/sub-{participant}/anat/sub-{participant}_space-MNI152NLin2009cAsym_desc-regions_dseg.nii.gz

.PHONY: env demo test test-hpc test-browser lint docs clean image sif test-container

env: .venv/.synced

$(BOOTSTRAP)/bin/uv:
	$(PYTHON) -m venv $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/pip install --quiet uv

# The environment is as the lock file says; it is made anew only when that or the project's metadata changed.
.venv/.synced: uv.lock pyproject.toml $(if $(filter $(BOOTSTRAP)/bin/uv,$(UV)),$(BOOTSTRAP)/bin/uv)
	$(UV) sync --frozen
	touch $@

# Simulate a study of four people, train one decoder for all, decode, and print the scores.
demo: env
	rm -rf $(DEMO)
	$(RUN)/python -m clipmused_bids.simulation.demo $(DEMO)/bids
	$(RUN)/clipmused-bids $(DEMO)/bids $(DEMO)/out group --clip-model demo --atlas '$(DEMO)/bids/$(REGIONS)'
	$(RUN)/clipmused-bids $(DEMO)/bids $(DEMO)/out participant --decode
	$(RUN)/python -m clipmused_bids.simulation.results $(DEMO)/bids $(DEMO)/out

test: env
	OMP_NUM_THREADS=1 $(RUN)/pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

# The cluster scripts on a Slurm of one node, which is installed (Debian, Ubuntu) and started for it: as root.
test-hpc: env
	bash tests/hpc/slurm_node.sh install
	CLIPMUSED_TEST_SLURM=1 OMP_NUM_THREADS=1 $(RUN)/pytest tests/hpc -m slurm --durations=10

# The reports in a real browser with the network off: Chromium is installed where there is none (Debian, as root).
test-browser: env
	command -v chromium chromium-browser google-chrome >/dev/null || { apt-get update && apt-get install -y chromium; }
	$(UV) sync --frozen --inexact --group browser
	CLIPMUSED_TEST_BROWSER=1 OMP_NUM_THREADS=1 $(RUN)/pytest tests/browser -m browser

lint: env
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports

docs: env
	$(RUN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# The container image; IMAGE_ARGS takes further words, e.g. '--build-arg CLIP_MODEL=' (docs/container.md).
image:
	$(ENGINE) build --file Containerfile --tag $(IMAGE) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$(shell git rev-parse HEAD) $(IMAGE_ARGS) .

# One file for Apptainer or Singularity, from the image. What docker (25 or later) saves is an OCI archive as well.
sif: image
	rm -f clipmused-bids.oci.tar
	$(if $(filter docker,$(ENGINE)),docker save --output clipmused-bids.oci.tar $(IMAGE),$(ENGINE) push $(IMAGE) oci-archive:clipmused-bids.oci.tar:$(IMAGE))
	apptainer build --force clipmused-bids.sif singularity.def
	rm -f clipmused-bids.oci.tar

# Builds image and Apptainer from nothing on Debian, as root, and runs the product inside: minutes, and 30 GB below
# /var/tmp/clipmused-container (or CLIPMUSED_CONTAINER_DIR).
test-container:
	tests/container/build.sh
	CLIPMUSED_TEST_CONTAINER=1 $(PYTHON) -m unittest -v tests/container/test_image.py

clean:
	rm -rf .venv $(BOOTSTRAP) $(DEMO) docs/_build docs/api docs/generated .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
