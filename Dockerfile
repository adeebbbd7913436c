# What the workers of a job run, on Dataflow or on a cluster with docker: Python with npyflow and the versions of
# constraints.txt, nothing else, and the program of Beam's own image that starts a worker. Built where docker is, in the
# repository root, for the Python that builds are started with:
#   docker build --build-arg PYTHON=3.12 --tag IMAGE . && docker push IMAGE
ARG PYTHON=3.11
FROM apache/beam_python${PYTHON}_sdk:2.77.0 AS beam

FROM python:${PYTHON}-slim
WORKDIR /opt/npyflow
COPY constraints.txt setup.py pyproject.toml README.md LICENSE ./
COPY loaders loaders
COPY pipelines pipelines
RUN pip install --no-cache-dir --constraint constraints.txt '.[pipelines,hdf5,zarr,arrayrecord,s3,gcs,azure]' && pip check

# From elsewhere, so that what was installed is imported: there is no image if that fails.
WORKDIR /tmp
RUN python -c "import importlib, pkgutil, pipelines; [importlib.import_module(module.name) for module in pkgutil.walk_packages(pipelines.__path__, 'pipelines.')]"

COPY --from=beam /opt/apache/beam /opt/apache/beam
# A worker has no use for a GPU.
ENV CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=2
ENTRYPOINT ["/opt/apache/beam/boot"]
