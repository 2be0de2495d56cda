#!/bin/bash
#SBATCH --job-name=unetpipe-preprocess
#SBATCH --chdir=/home/lab
#SBATCH --output=/home/lab/slurm/3/preprocess.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --gpus-per-node=0
#SBATCH --time=60
#SBATCH --requeue

rm -f /home/lab/slurm/3/preprocess.exit
srun --kill-on-bad-exit=1 --cpus-per-task=2 unetpipe preprocess 'Task 04' --out work
code=$?

stopped_by_slurm() {
  local job
  job=$(SLURM_TIME_FORMAT=standard scontrol show job --oneliner "$SLURM_JOB_ID") || return
  [[ $job == *" JobState=RUNNING "* ]] || return # a person has cancelled it
  [[ $job == *" PreemptTime=None "* ]] || return 0
  return 1 # started again, it would meet its time limit again
}

if ((code >= 128 && ${SLURM_RESTART_COUNT:-0} < 20)) && stopped_by_slurm; then
  scontrol requeue "$SLURM_JOB_ID" && exit
fi
echo $code >/home/lab/slurm/3/preprocess.exit
exit $code
