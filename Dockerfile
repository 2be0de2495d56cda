# unetpipe as a command: docker run --rm -v "$PWD:/data" unetpipe infer MODEL scan.nii.gz --out labels
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/unetpipe
ENV PATH=/opt/unetpipe/bin:$PATH
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pipeline pipeline
# what `docker build --build-arg VERSION=0.2.0` says; the image has no repository to read it from
ARG VERSION=
ENV SETUPTOOLS_SCM_PRETEND_VERSION_FOR_UNETPIPE=$VERSION
RUN pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/unetpipe /opt/unetpipe
# caches that libraries want to write, for whichever user the container runs as
ENV PATH=/opt/unetpipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    HOME=/tmp
RUN useradd --system --uid 10001 --no-create-home unetpipe
USER 10001
WORKDIR /data
ENTRYPOINT ["unetpipe"]
CMD ["--help"]
