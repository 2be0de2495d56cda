# unetpipe as a command, for any user and with nothing to write to but the output:
#   docker build -t unetpipe --build-arg DEVICE=cuda .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --read-only --tmpfs /tmp -v "$PWD:/data" unetpipe infer MODEL scan.nii.gz --out labels
ARG BASE=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/unetpipe
ENV PATH=/opt/unetpipe/bin:$PATH
COPY pyproject.toml constraints.txt README.md LICENSE ./
# DEVICE=cuda takes the default torch, with CUDA's libraries; DEVICE=cpu one of PyTorch's CPU wheels, which are a third
# of the size and lie on a page of their own, or in a folder mounted into the build: FIND_LINKS says where
ARG DEVICE=cuda
ARG FIND_LINKS=
RUN torch="$(grep '^torch==' constraints.txt)" && \
    if [ "$DEVICE" = cpu ]; then torch="$torch+cpu"; fi && \
    pip install --no-cache-dir --constraint constraints.txt ${FIND_LINKS:+--find-links "$FIND_LINKS"} "$torch"
COPY pipeline pipeline
# what `docker build --build-arg VERSION=0.2.0` says; the image has no repository to read it from
ARG VERSION=
ENV SETUPTOOLS_SCM_PRETEND_VERSION_FOR_UNETPIPE=$VERSION
RUN pip install --no-cache-dir --constraint constraints.txt '.[clinic]'

# hadolint ignore=DL3006
FROM ${BASE}
COPY --from=build /opt/unetpipe /opt/unetpipe
COPY bundles /opt/unetpipe/share/unetpipe/bundles
# Libraries ask for a user's name and home, which a user without an entry in /etc/passwd has only here; caches go to /tmp.
ENV PATH=/opt/unetpipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    USER=unetpipe \
    LOGNAME=unetpipe \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001
WORKDIR /data
ENTRYPOINT ["unetpipe"]
CMD ["--help"]
