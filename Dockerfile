# One file, a target per purpose: docker build --target serve -t spanishgas-serve .

# serve: SageMaker inference. Its dependencies are the group `serve` of pyproject.toml, pinned by uv.lock.
FROM python:3.11-slim AS serve-build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --only-group serve --no-python-downloads --compile-bytecode

FROM python:3.11-slim AS serve
# libgomp is XGBoost's and scikit-learn's OpenMP run-time.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home spanishgas
WORKDIR /app
COPY --from=serve-build /app/.venv .venv
COPY spanishgas spanishgas
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SPANISHGAS_SERVE_HOST=0.0.0.0
USER 10001
EXPOSE 8080
ENTRYPOINT ["python", "-m", "spanishgas.scoring"]
CMD ["serve"]
