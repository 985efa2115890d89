# One image for every process of ours; docker-compose.yml says which command runs where. No secret is in it: keys come
# from the environment. It writes nothing outside /tmp and, where a volume is mounted, /data: it runs with a read-only root.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/kiejobs
COPY requirements.lock ./
RUN /opt/kiejobs/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY kiejobs kiejobs
RUN /opt/kiejobs/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 kiejobs \
    && useradd --uid 10001 --gid kiejobs --no-create-home --home-dir /tmp --shell /usr/sbin/nologin kiejobs \
    && install --directory --owner=kiejobs --group=kiejobs --mode=0700 /data
COPY --from=build /opt/kiejobs /opt/kiejobs
# `workers` and the two configurations are deployed, not installed: such names must not land in site-packages.
WORKDIR /app
COPY celeryconfig.py flowerconfig.py ./
COPY workers workers
ENV PATH=/opt/kiejobs/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
CMD ["kiejobs", "--help"]
