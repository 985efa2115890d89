# One image for every process of ours; docker-compose.yml says which command runs where. No secret is in it: keys come
# from the environment. It writes nothing outside /tmp, so it runs with a read-only root.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/kiejobs
COPY requirements.lock requirements-dev.lock ./
RUN /opt/kiejobs/bin/pip install --require-hashes -r requirements.lock

# The build backend, from the same locks and with its hashes, in an environment that stays behind in this stage: the
# setuptools that Python 3.11 brings is too old for this pyproject.toml.
RUN python -m venv /opt/backend \
    && sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > backend.lock \
    && /opt/backend/bin/pip install --require-hashes -r backend.lock
COPY pyproject.toml README.md LICENSE ./
COPY kiejobs kiejobs
RUN /opt/backend/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels . \
    && /opt/kiejobs/bin/pip install --no-deps /build/wheels/kiejobs-*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 kiejobs \
    && useradd --uid 10001 --gid kiejobs --no-create-home --home-dir /tmp --shell /usr/sbin/nologin kiejobs
COPY --from=build /opt/kiejobs /opt/kiejobs
# `workers` and the two configurations are deployed, not installed: such names must not land in site-packages.
WORKDIR /app
COPY celeryconfig.py flowerconfig.py ./
COPY workers workers
ENV PATH=/opt/kiejobs/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
CMD ["kiejobs", "--help"]
