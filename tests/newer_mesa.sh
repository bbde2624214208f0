#!/bin/sh
# Makes a folder with Debian 13, its newest Mesa and Deno, to run something on a newer software driver: one that Dawn takes, which
# has subgroup matrices, and where other tiles of products are the fastest. As root; about a minute and 1 GB.
#   sh tests/newer_mesa.sh DIR              makes it
#   sh tests/newer_mesa.sh DIR COMMAND...   runs a command in it, in /project (the current folder, bind-mounted), with this machine's Deno cache and certificates
set -eu
dir=$1; shift
if [ ! -x "$dir/usr/local/bin/deno" ]; then
  command -v debootstrap >/dev/null || apt-get install -y -q debootstrap >/dev/null
  mirror=$(sed -nE 's/^(URIs:|deb) +(https?:[^ ]+debian)( .*)?$/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
  debootstrap --variant=minbase --include=ca-certificates,libatomic1 trixie "$dir" "$mirror" >/dev/null
  cp /etc/resolv.conf "$dir/etc/" 2>/dev/null || true
  echo "deb $mirror trixie-backports main" > "$dir/etc/apt/sources.list.d/backports.list"
  chroot "$dir" sh -c 'apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends -t trixie-backports mesa-vulkan-drivers libvulkan1 gcc libc6-dev libvulkan-dev >/dev/null'
  cp "$(npx -y deno@2.9.6 eval 'console.log(Deno.execPath())')" "$dir/usr/local/bin/deno"
  mkdir -p "$dir/project"
fi
[ $# -gt 0 ] || { echo "$dir is ready"; exit 0; }
exec unshare -m sh -c '
  mount --rbind /proc "$0/proc"; mount --rbind /dev "$0/dev"; mount --bind "$PWD" "$0/project"; mount --bind /etc/ssl "$0/etc/ssl"
  cache=${DENO_DIR:-$HOME/.cache/deno}; mkdir -p "$cache" "$0/root/.cache/deno"; mount --bind "$cache" "$0/root/.cache/deno"
  exec chroot "$0" env HOME=/root XDG_RUNTIME_DIR=/tmp VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json sh -c "cd /project && exec \"\$@\"" sh "$@"' "$dir" "$@"
