#!/bin/bash
# Slurm Epilog: takes away the rings of a job that ended; the agent has archived what they held. Runs as root.
set -euo pipefail
spool=${SKEWSCOPE_SPOOL:-/run/skewscope/spool}
case ${SLURM_JOB_ID:-} in
'' | *[!0-9]*) exit 0 ;;
esac
[ -d "$spool" ] || exit 0
# The agent looks once a second; the job's own records are younger than that only here.
sleep 2
find "$spool" -xdev -maxdepth 1 -type f -name "$SLURM_JOB_ID-r*.ring" -delete
