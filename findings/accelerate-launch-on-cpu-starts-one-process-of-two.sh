#!/usr/bin/env bash
# accelerate 1.15.0: `accelerate launch --cpu --num_processes 2` starts one process, and says nothing of the other.
#
# Expected: two processes, as `torchrun --nproc-per-node 2` starts them with gloo; or a line that says why not.
# Seen:     the script runs once, as process 0 of 1, with exit code 0. On a CPU more are started only with an MPI host file
#           (--mpirun_hostfile). A training script takes a half of the work for the whole of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q accelerate==1.15.0 torch==2.14.1 numpy
cat > "$folder/say.py" <<'PYTHON'
from accelerate import PartialState

state = PartialState(cpu=True)
print(f"process {state.process_index} of {state.num_processes}", flush=True)
PYTHON
cd "$folder"
export HF_HOME="$folder" OMP_NUM_THREADS=1
said=$("$folder/venv/bin/accelerate" launch --cpu --num_processes 2 say.py 2> errors.txt)
echo "accelerate launch --cpu --num_processes 2: $said"
by_torchrun=$("$folder/venv/bin/torchrun" --nproc-per-node 2 say.py 2> /dev/null | sort | paste -sd ';')
echo "torchrun --nproc-per-node 2: $by_torchrun"
if [ "$said" != "process 0 of 1" ] || [ "$by_torchrun" != "process 0 of 2;process 1 of 2" ] || grep -qi "hostfile\|one process" errors.txt; then
  cat errors.txt
  echo "this has changed"
  exit 1
fi
