#!/bin/sh
# without-limits.sh RUNTIME ARGUMENTS…: runs an OCI runtime without limits of processors, memory, processes and disks,
# as not every machine gives these controllers to cgroup v2, and without settings that need CAP_SYS_RESOURCE. Some
# engines always set them. Device rules stay as they are.
set -eu
runtime=$1
shift
bundle=
for word; do
    case ${last:-} in
    -b | --bundle) bundle=$word ;;
    esac
    last=$word
done
if [ -n "$bundle" ]; then
    # Joined to one line: strings in JSON contain neither line ends nor tabs.
    text=$(tr -d '\n\t' <"$bundle/config.json")
    printf '%s' "$text" |
        sed -E 's/,"(memory|cpu|pids|blockIO|unified)": ?\{[^{}]*\}//g; s/,"oomScoreAdj": ?-?[0-9]+//' >"$bundle/config.json"
fi
exec "$runtime" "$@"
