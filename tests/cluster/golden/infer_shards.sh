#!/bin/bash
#SBATCH --job-name=unetpipe-infer
#SBATCH --chdir=/home/lab
#SBATCH --output=/home/lab/slurm/3/infer_%a.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --gpus-per-node=0
#SBATCH --time=60
#SBATCH --requeue
#SBATCH --array=1,2
#SBATCH --signal=USR2@120

rm -f /home/lab/slurm/3/infer_"$SLURM_ARRAY_TASK_ID".exit
srun --kill-on-bad-exit=1 --cpus-per-task=2 unetpipe infer model scans --out labels --skip-existing --shard "$SLURM_ARRAY_TASK_ID/2"
code=$?

stopped_by_slurm() {
  local job
  job=$(SLURM_TIME_FORMAT=standard scontrol show job --oneliner "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID") || return
  [[ $job == *" JobState=RUNNING "* ]] || return # a person has cancelled it
  [[ $job == *" PreemptTime=None "* ]] || return 0
  local limit=${job#* EndTime=}
  limit=$(date -d "${limit%% *}" +%s) || return
  ((limit - $(date +%s) <= 180))
}

if ((code >= 128 && ${SLURM_RESTART_COUNT:-0} < 20)) && stopped_by_slurm; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && exit
fi
echo $code >/home/lab/slurm/3/infer_"$SLURM_ARRAY_TASK_ID".exit
exit $code
