#!/bin/bash -eu
# What OSS-Fuzz runs to build the fuzz targets, at the root of a clone, in its builder for Python: each
# target becomes one file in $OUT, beside its seeds and options. Kernels are plain there.

python3 -m pip install --require-hashes -r requirements-run.lock
python3 -m pip install --no-deps --no-build-isolation .

made=$(mktemp -d)
python3 fuzz/write_harnesses.py "$made"
for harness in "$made"/fuzz_*.py; do
  # Targets are imported by name, and the source of what counts its branches is read.
  compile_python_fuzzer "$harness" --collect-submodules xennet --add-data "$PWD/xennet:xennet"
done
cp "$made"/*.zip "$made"/*.options "$OUT"/
