#!/bin/sh
# image.sh ROOTFS FILE: makes an image localhost/probe:1 of a root file system, in the format of docker save: one layer,
# a configuration, and a manifest. containerd also uses it as the image of the pause container.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -C "$1" -cf "$work/layer.tar" .
cat >"$work/config.json" <<END
{"architecture":"$(dpkg --print-architecture)","os":"linux","config":{"Entrypoint":["sleep","1000000"],"Env":["PATH=/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$(sha256sum <"$work/layer.tar" | cut -d ' ' -f 1)"]}}
END
echo '[{"Config":"config.json","RepoTags":["localhost/probe:1"],"Layers":["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf "$2" config.json manifest.json layer.tar
