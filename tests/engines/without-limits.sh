#!/bin/sh
# without-limits.sh RUNTIME ARGUMENTS…: an OCI runtime that is asked for no limits of processors, memory, processes and disks,
# as not every machine gives these controllers to cgroup v2, and for nothing that needs CAP_SYS_RESOURCE.
# Some engines always ask. Device rules stay as they are.
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
    # On one line: text in JSON has neither ends of lines nor tabs in it.
    text=$(tr -d '\n\t' <"$bundle/config.json")
    printf '%s' "$text" |
        sed -E 's/,"(memory|cpu|pids|blockIO|unified)": ?\{[^{}]*\}//g; s/,"oomScoreAdj": ?-?[0-9]+//' >"$bundle/config.json"
fi
exec "$runtime" "$@"
