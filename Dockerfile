# The scorer only, as an unprivileged user.
#
#     docker build -t rungwise .
#     docker run --rm --network none -v "$PWD:/videos:ro" rungwise score video.mp4
#     ffmpeg ... -f mpegts - | docker run --rm -i --network none rungwise score - --windows
#
# `python benchmarks/container.py` runs the build's steps without an engine.
FROM python:3.11-slim AS build
COPY . /source
RUN python -m venv /opt/rungwise
RUN /opt/rungwise/bin/pip install --no-cache-dir --no-compile --require-hashes -r /source/requirements.lock
RUN /opt/rungwise/bin/pip install --no-cache-dir --no-compile --no-deps /source
RUN /opt/rungwise/bin/pip uninstall --yes setuptools pip
# Neither tests nor tools of packages; bytecode only of what scoring imports.
RUN find /opt/rungwise -depth -type d -name tests -exec rm -r {} +
RUN find /opt/rungwise -depth -type d -path "*/onnxruntime/transformers" -exec rm -r {} +
RUN find /opt/rungwise -depth -type d -name __pycache__ -exec rm -r {} +
RUN /opt/rungwise/bin/python -c "from rungwise import Scorer; import rungwise.cli.score; Scorer()"

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home rungwise
COPY --from=build /opt/rungwise /opt/rungwise
USER 10001
WORKDIR /videos
ENTRYPOINT ["/opt/rungwise/bin/rungwise"]
CMD ["--help"]
