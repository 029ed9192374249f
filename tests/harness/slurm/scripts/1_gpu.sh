#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --job-name=repro-SUBMISSION-0
#SBATCH --mem=32768M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/results/submissions/SUBMISSION/jobs/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=720

# setup
export SLURM_EXPORT_ENV=ALL
export PYTHONPATH=/shared/results/code/HASH"${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # not the working directory, whose code may have been edited
export REPRO_REQUEUES=30
export REPRO_PACKED=1
export REPRO_WARNING=120
export SUBMITIT_PREEMPT_SIGNAL=WINCH  # submitit leaves the warning to the job
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/results/submissions/SUBMISSION/jobs/%j_%t_log.out --kill-on-bad-exit=1 bash -c 'trap '"'"''"'"' USR2; exec "$@"' task python -u -m submitit.core._submit /shared/results/submissions/SUBMISSION/jobs


# teardown
code=$?
if [ $code = 85 ]; then  # saved after a warning
    for pause in 0 5 20; do
        sleep $pause; scontrol requeue "$SLURM_JOB_ID" && sleep 300
    done
    echo "SLURM did not take this job back; repro retry interrupted"
elif [ $code != 0 ] && scontrol show job "$SLURM_JOB_ID" | grep -q PreemptTime=2; then
    echo "preempted: SLURM queues this job again only if it has to end it itself"
    sleep 3600
fi
exit $code
