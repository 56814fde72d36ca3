#!/bin/sh
# without-limits.sh RUNTIME ARGUMENTS…: runs an OCI runtime after it has removed limits of processors, memory, processes and
# disks from the bundle, since on some machines cgroup v2 has none of these controllers, and settings that need
# CAP_SYS_RESOURCE. Some engines always set them. Device rules stay.
set -eu
runtime=$1
shift
bundle=
for argument; do
    case ${last:-} in
    -b | --bundle) bundle=$argument ;;
    esac
    last=$argument
done
if [ -n "$bundle" ]; then
    # Joined to one line: strings in JSON contain neither line ends nor tabs.
    text=$(tr -d '\n\t' <"$bundle/config.json")
    printf '%s' "$text" |
        sed -E 's/,"(memory|cpu|pids|blockIO|unified)": ?\{[^{}]*\}//g; s/,"oomScoreAdj": ?-?[0-9]+//' >"$bundle/config.json"
fi
exec "$runtime" "$@"
