#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --gres=gpu:a100:8
#SBATCH --job-name=repro-SUBMISSION-0
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/shared/results/submissions/SUBMISSION/jobs/%j_0_log.out
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --reservation=dino
#SBATCH --signal=USR2@300
#SBATCH --time=720

# setup
export SLURM_EXPORT_ENV=ALL
export PYTHONPATH=/shared/results/code/HASH"${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # not the working directory, whose code may have been edited
export REPRO_REQUEUES=30
export REPRO_PACKED=1
export REPRO_WARNING=300
export SUBMITIT_PREEMPT_SIGNAL=WINCH  # submitit leaves the warning to the job
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
# Rank 0 is on the first node; a setup: line may name its fast network instead.
# Ranks wait half an hour for each other (repro/distributed.py).
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR=${MASTER_ADDR:-$first}
# What NCCL finds wrong, it says; a rank that fails ends the others. Networks differ:
# NCCL_SOCKET_IFNAME, NCCL_IB_HCA and the like belong into setup: of the profile.
export NCCL_DEBUG=${NCCL_DEBUG:-WARN} TORCH_NCCL_ASYNC_ERROR_HANDLING=1

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
