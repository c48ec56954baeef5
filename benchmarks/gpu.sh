#!/bin/bash
# What only a GPU can tell of mlcv-bench, in one run of at most 8 minutes: benchmarks/gpu.sh [OUT] [SECONDS]
# Results go to OUT (benchmarks/results by default): gpu.md, and a file for every step. Packages that the machine lacks
# are taken from the wheels in $WHEELS, where that is set.
set -u
cd "$(dirname "$0")/.." || exit 1
out=${1:-benchmarks/results}; seconds=${2:-460}; python=${PYTHON:-python3}
mkdir -p "$out"
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit 3
    export PYTHONPATH="$site"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"$python" -c "import torch; assert torch.cuda.is_available(), 'no CUDA device'" || exit 4
exec "$python" benchmarks/gpu.py "$out" "$seconds"
