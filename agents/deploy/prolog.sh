#!/bin/bash
# Slurm Prolog: a spool that every job may write its rings to. Runs as root on each node before a job.
set -euo pipefail
spool=${SKEWSCOPE_SPOOL:-/run/skewscope/spool}
install -d -m 0755 "$(dirname "$spool")"
# Setgid to the agent's group: rings are 0640, and only so may the agent read those of any user.
group=$(getent group skewscope >/dev/null && echo skewscope || id -gn)
# It gets its name when it is whole: nobody can put a link in the place of a folder, and no prolog sees a part.
if [ ! -d "$spool" ]; then
    new=$(mktemp -d "$spool.XXXXXX")
    install -d -m 3777 -g "$group" "$new/flight" "$new/inspector" "$new"
    mv -T "$new" "$spool" || rm -r "$new"
fi
# The job's tasks get the same variables from a TaskProlog that prints:
#   export SKEWSCOPE_SPOOL=/run/skewscope/spool
#   export SKEWSCOPE_JOB=$SLURM_JOB_ID
