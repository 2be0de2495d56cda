#!/bin/bash
#SBATCH --job-name=unetpipe-train
#SBATCH --chdir=/home/lab
#SBATCH --output=/home/lab/slurm/3/train_%a.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=720
#SBATCH --requeue
#SBATCH --array=0,2,4
#SBATCH --signal=USR2@120
#SBATCH --mem=102400M
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --constraint='a100&nvlink'

rm -f /home/lab/slurm/3/train_"$SLURM_ARRAY_TASK_ID".exit
srun --kill-on-bad-exit=1 --cpus-per-task=8 --mpi=none apptainer exec --nv unetpipe.sif unetpipe train work --fold "$SLURM_ARRAY_TASK_ID"
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

if ((code >= 128 && ${SLURM_RESTART_COUNT:-0} < 5)) && stopped_by_slurm; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && exit
fi
echo $code >/home/lab/slurm/3/train_"$SLURM_ARRAY_TASK_ID".exit
exit $code
