#!/bin/bash

# Parameters
#SBATCH --array=0-3%4
#SBATCH --constraint=h100
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=h100:8
#SBATCH --job-name=repro-SUBMISSION-0
#SBATCH --mail-type=FAIL,END
#SBATCH --mail-user=me@example.org
#SBATCH --mem=262144M
#SBATCH --nice=100
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/shared/results/submissions/SUBMISSION/jobs/%A_%a_0_log.out
#SBATCH --partition=long
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --switches=1
#SBATCH --time=720
#SBATCH --wckey=dino

# setup
export SLURM_EXPORT_ENV=ALL
trap 'code=$?; if [ ${#BASH_SOURCE[@]} -le 1 ]; then echo "setup: failed on $(hostname) (exit code $code): $BASH_COMMAND"; exit $code; fi' ERR
module load cuda/12.4
source ~/venv/bin/activate
trap - ERR
srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 bash -c 'trap '"'"''"'"' USR2
trap '"'"'code=$?; if [ ${#BASH_SOURCE[@]} -le 1 ]; then echo "node_setup: failed on $(hostname) (exit code $code): $BASH_COMMAND"; exit $code; fi'"'"' ERR
tar -xf /datasets/imagenet.tar -C $SLURM_TMPDIR' || exit $?
export PYTHONPATH=/shared/results/code/HASH"${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # not the working directory, whose code may have been edited
export REPRO_REQUEUES=30
export REPRO_PACKED=1
export REPRO_WARNING=120
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
srun --unbuffered --output /shared/results/submissions/SUBMISSION/jobs/%A_%a_%t_log.out --kill-on-bad-exit=1 --gpu-bind=closest bash -c 'trap '"'"''"'"' USR2; exec "$@"' task PYTHON -u -m submitit.core._submit /shared/results/submissions/SUBMISSION/jobs


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
