#!/bin/bash
# Slurm Prolog: a spool that every job may write its rings to. Runs as root on each node before a job.
set -euo pipefail
spool=${SKEWSCOPE_SPOOL:-/run/skewscope/spool}
install -d -m 0755 "$(dirname "$spool")"
# Setgid to the agent's group: rings are 0640, and only so may the agent read those of any user.
group=$(getent group skewscope >/dev/null && echo skewscope || id -gn)
for folder in "$spool" "$spool/flight" "$spool/inspector"; do
    [ -d "$folder" ] || install -d -m 3777 -g "$group" "$folder"
done
# The job's tasks get the same variables from a TaskProlog that prints:
#   export SKEWSCOPE_SPOOL=/run/skewscope/spool
#   export SKEWSCOPE_JOB=$SLURM_JOB_ID
