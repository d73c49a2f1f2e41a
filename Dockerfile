# One file, a target per purpose: docker build --target serve -t spanishgas-serve .
#
#   project    runs entry points: docker run spanishgas-project score --lake s3://...
#   job        the same as a SageMaker processing job
#   serve      SageMaker inference
#   tracking   the MLflow server, and the upgrade of its database
#   lambda     the upload function
#
# All versions come from uv.lock. Deployments pin the bases by digest: --build-arg PYTHON=python@sha256:...

ARG PYTHON=python:3.11-slim-bookworm
ARG LAMBDA=public.ecr.aws/lambda/python:3.13
ARG UV=0.13.9

FROM ${PYTHON} AS build
ARG UV
RUN pip install --no-cache-dir uv==${UV}
WORKDIR /app
COPY pyproject.toml uv.lock ./

FROM build AS project-build
RUN uv sync --locked --no-dev --extra postgres --extra sagemaker --no-install-project --no-python-downloads --compile-bytecode

FROM build AS serve-build
# The libraries' own tests are a fifth of them. Where evidently is, its `tests` are no tests, so elsewhere they stay.
RUN uv sync --locked --only-group serve --no-python-downloads --compile-bytecode \
 && find .venv -type d -name tests -prune -exec rm -rf {} +

FROM build AS tracking-build
RUN uv sync --locked --only-group tracking --no-python-downloads --compile-bytecode

FROM build AS lambda-build
RUN uv export --locked --only-group lambda --output-file requirements.txt

FROM ${PYTHON} AS base
# libgomp is XGBoost's and scikit-learn's OpenMP run-time. Debian keeps its newest version alone, so none is named.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home spanishgas
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS project
COPY --from=project-build /app/.venv .venv
COPY experiments experiments
COPY spanishgas spanishgas
ENV HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true SPANISHGAS_CACHE=/tmp/spanishgas
USER 10001
ENTRYPOINT ["python", "-m", "spanishgas"]

FROM project AS job
# SageMaker alone runs this target, in a machine of its own: /opt/ml, where the job's message goes, is root's there.
# hadolint ignore=DL3002
USER 0
# Held against the lock of the code that comes with a job.
COPY uv.lock .
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "spanishgas.aws.job"]

FROM base AS serve
COPY --from=serve-build /app/.venv .venv
COPY spanishgas spanishgas
ENV SPANISHGAS_SERVE_HOST=0.0.0.0
USER 10001
EXPOSE 8080
ENTRYPOINT ["python", "-m", "spanishgas.scoring"]
CMD ["serve"]

FROM base AS tracking
COPY --from=tracking-build /app/.venv .venv
COPY infra/tracking/*.py infra/tracking/rds.pem ./
ENV HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true TRACKING_DATABASE_CA=/app/rds.pem
USER 10001
EXPOSE 5000
ENTRYPOINT ["python", "server.py"]
CMD ["serve"]

FROM ${LAMBDA} AS lambda
WORKDIR /var/task
COPY --from=lambda-build /app/requirements.txt .
RUN pip install --no-cache-dir --require-hashes --target . -r requirements.txt
COPY spanishgas/__init__.py spanishgas/raw_files.py spanishgas/
COPY spanishgas/aws/__init__.py spanishgas/aws/upload.py spanishgas/aws/
# Lambda runs every image as a user of its own, without rights; this says so to whoever else runs it.
USER 10001
CMD ["spanishgas.aws.upload.handler"]
