#!/bin/sh
# A HealthCheckProgram for Slurm: each node drains itself while a verdict of skewscope keeps it out of new work.
# It reads NODE.json as the `file` actuator writes it, so that whoever judges nodes needs no rights in Slurm at all.
#
#   slurm.conf:  HealthCheckProgram=/etc/slurm/slurm_health_check.sh
#                HealthCheckInterval=60
#                HealthCheckNodeState=ANY
#
# SKEWSCOPE_VERDICTS is the folder of verdicts, on a file system that all nodes see. A node that is drained by somebody
# else, or by skewscope itself through scontrol, is left as it is. By hand: remove the verdict, or resume the node after.
verdicts=${SKEWSCOPE_VERDICTS:-/var/lib/skewscope/verdicts}
node=${SLURMD_NODENAME:-$(hostname -s)}
mark="(by its health check)"

case $node in '' | -* | *[!A-Za-z0-9._-]*) exit 0 ;; esac
# Without the folder nothing is known, which is no leave to come back.
[ -d "$verdicts" ] && [ -r "$verdicts" ] || exit 0

# Only the keys of the outermost object stand one space deep.
file=$verdicts/$node.json
wanted=
if [ -f "$file" ] && grep -q '^ "keep_out": true,*$' "$file"; then
    wanted=$(sed -n 's/^ "reason": "\(.*\)",*$/\1/p' "$file" | head -n 1 | tr -cd 'A-Za-z0-9 .,:;_+/%()<>=@#[]-' | cut -c 1-160)
    case $wanted in skewscope:*) ;; *) exit 0 ;; esac
fi

state=$(sinfo --noheader --Node --nodes="$node" --format=%T | head -n 1)
reason=$(sinfo --noheader --Node --nodes="$node" --format=%E | head -n 1)
case $state in
drain*)
    case $reason in
    "skewscope:"*"$mark") [ -n "$wanted" ] || scontrol update NodeName="$node" State=UNDRAIN ;;
    esac
    ;;
idle* | alloc* | mix* | comp* | resv* | planned*)
    [ -z "$wanted" ] || scontrol update NodeName="$node" State=DRAIN Reason="$wanted $mark"
    ;;
esac
exit 0
