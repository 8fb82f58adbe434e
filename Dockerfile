# One image for every role: dispatcher and worker.  The ordinary build of torch for Linux drives NVIDIA GPUs
# and runs without one too; a smaller build for processors alone comes from another package index, which pip
# takes from the build argument PIP_EXTRA_INDEX_URL.
FROM python:3.12.12-slim-bookworm

ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

WORKDIR /opt/phdl-catalog
COPY pyproject.toml README.md LICENSE ./
COPY phdl_catalog phdl_catalog
COPY workers workers
COPY migrations migrations
RUN pip install . \
    && useradd --system --create-home --uid 1000 phdl \
    && install --directory --owner phdl --group phdl /data

USER phdl
VOLUME /data
ENV PHDL_DATA_DIR=/data
CMD ["phdl", "--help"]
