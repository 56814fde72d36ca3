#!/bin/sh
# Runs inside a container and prints what it sees, one fact per line:
#   node PATH MODE MAJOR:MINOR OPEN     each character device of the driver's, and how an open for reading ends
#   env NAME=VALUE                      the variables that a CDI spec may set
#   made MAJOR:MINOR OPEN               for each argument MAJOR:MINOR: a node made here, and how its open ends
open() {
    case $(head -c 1 "$1" 2>&1 >/dev/null) in
    *"No such device or address"*) echo ENXIO ;;
    *"Operation not permitted"*) echo EPERM ;;
    *"Permission denied"*) echo EACCES ;;
    *"No such device"*) echo ENODEV ;;
    "") echo OPENED ;;
    *) echo OTHER ;;
    esac
}
find /dev \( -path '/dev/nvidia*' -o -path '/dev/dri/*' \) ! -type d | sort | while read -r path; do
    numbers=$(stat -c '0x%t 0x%T' "$path")
    echo "node $path $(stat -c %a "$path") $((${numbers% *})):$((${numbers#* })) $(open "$path")"
done
env | grep -E '^(NVIDIA|MIG|CUDA)' | sort | sed 's/^/env /'
for numbers; do
    if mknod /tmp/node c "${numbers%:*}" "${numbers#*:}"; then
        echo "made $numbers $(open /tmp/node)"
        rm /tmp/node
    else
        echo "made $numbers FAILED"
    fi
done
