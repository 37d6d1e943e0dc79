# Training in a container, as an ordinary user, on the CPU:
#     docker build --tag ppo2 .
#     docker run --rm --user "$(id -u)" --volume "$PWD/runs:/runs" ppo2 train CartPole-v1
# Extras: docker build --build-arg EXTRAS=box2d,mujoco ...; on a GPU: --build-arg JAX='jax[cuda13]', and run with --gpus all.
FROM python:3.13-slim

ARG EXTRAS=""
ARG JAX="jax"

# Runs and compiled programs are written here, by whichever user the container runs as
RUN useradd --uid 1000 ppo2 \
    && mkdir --mode 1777 /runs /cache

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY tools/package_page.py tools/
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}" "$JAX"

ENV XDG_CACHE_HOME=/cache \
    HOME=/cache
USER 1000
WORKDIR /
ENTRYPOINT ["ppo2"]
CMD ["--help"]
