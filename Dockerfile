# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tuning
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY mcp_server ./mcp_server
RUN /opt/tuning/bin/pip install --constraint constraints.txt .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="tuning-mcp" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --create-home tuning && install -d -o tuning -g tuning /data /data/workspace /data/tables
COPY --from=build /opt/tuning /opt/tuning
ENV PATH=/opt/tuning/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TUNING_WORKSPACE=/data/workspace \
    TUNING_DATA_ROOTS=/data/tables
USER tuning
WORKDIR /data
VOLUME /data
ENTRYPOINT ["tuning-mcp"]
CMD ["serve"]
