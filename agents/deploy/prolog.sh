#!/bin/bash
# Slurm Prolog: a spool that every job may write its rings to. Runs as root on each node before a job.
set -euo pipefail
spool=${SKEWSCOPE_SPOOL:-/run/skewscope/spool}
install -d -m 0755 "$(dirname "$spool")"
[ -d "$spool" ] || install -d -m 1777 "$spool"
# The job's tasks get the same variables from a TaskProlog that prints:
#   export SKEWSCOPE_SPOOL=/run/skewscope/spool
#   export SKEWSCOPE_JOB=$SLURM_JOB_ID
