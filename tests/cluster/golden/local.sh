#!/bin/bash
trap 'exit 143' TERM # after the command that runs, which gets the signal too and may save first
cd /home/lab || exit

run() { # NAME WORD...: run a command, and keep its output and its exit code
  local name=$1
  shift
  "$@" >>"$name.log" 2>&1
  echo $? >"$name.exit"
}

succeeded() { # NAME...
  local name
  for name in "$@"; do
    [[ $(cat "$name.exit" 2>/dev/null) == 0 ]] || return
  done
}

run /home/lab/slurm/3/preprocess env CUDA_VISIBLE_DEVICES= unetpipe preprocess 'Task 04' --out work
succeeded /home/lab/slurm/3/preprocess && run /home/lab/slurm/3/train_0 apptainer exec --nv unetpipe.sif unetpipe train work --fold 0 --gpus 4
succeeded /home/lab/slurm/3/preprocess && run /home/lab/slurm/3/train_2 apptainer exec --nv unetpipe.sif unetpipe train work --fold 2 --gpus 4
succeeded /home/lab/slurm/3/preprocess && run /home/lab/slurm/3/train_4 apptainer exec --nv unetpipe.sif unetpipe train work --fold 4 --gpus 4
succeeded /home/lab/slurm/3/train_0 /home/lab/slurm/3/train_2 /home/lab/slurm/3/train_4 && run /home/lab/slurm/3/infer_1 env CUDA_VISIBLE_DEVICES= unetpipe infer model scans --out labels --skip-existing --shard 1/2
succeeded /home/lab/slurm/3/train_0 /home/lab/slurm/3/train_2 /home/lab/slurm/3/train_4 && run /home/lab/slurm/3/infer_2 env CUDA_VISIBLE_DEVICES= unetpipe infer model scans --out labels --skip-existing --shard 2/2
run /home/lab/slurm/3/merge env CUDA_VISIBLE_DEVICES= unetpipe merge labels --shards 2
