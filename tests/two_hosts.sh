#!/bin/sh
# Two network namespaces as two hosts, with a TCP line between them and nothing else: a run of two ranks, one on each, leaves the bytes
# of two ranks on one. As root, with mpiexec of MPICH (tests/install_mpi.sh); some 20 seconds. Says what is missing where it cannot be.
#   sh tests/two_hosts.sh [--key=value ...]
set -eu
skip() { echo "skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "namespaces want root"
command -v ip >/dev/null || skip "no ip (iproute2)"
mpiexec=${SIMPER_MPIEXEC:-$(command -v mpiexec || true)}
[ -n "$mpiexec" ] || skip "no mpiexec in PATH or SIMPER_MPIEXEC"
"$mpiexec" --version 2>/dev/null | grep -qi hydra || skip "$mpiexec is not MPICH's"

name=simper$$
out=$(mktemp -d)
cleanup() {
  for host in 1 2; do ip netns del "$name-$host" 2>/dev/null || true; done
  rm -rf "$out"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
ip netns add "$name-1" 2>/dev/null && ip netns add "$name-2" || skip "no network namespaces here"
ip link add "$name-a" netns "$name-1" type veth peer name "$name-b" netns "$name-2" || skip "no veth here"
ip -n "$name-1" addr add 10.77.7.1/24 dev "$name-a"
ip -n "$name-2" addr add 10.77.7.2/24 dev "$name-b"
for host in 1 2; do ip -n "$name-$host" link set lo up; done
ip -n "$name-1" link set "$name-a" up
ip -n "$name-2" link set "$name-b" up

# In the place of ssh: HOST COMMAND...
cat > "$out/launch" <<END
#!/bin/sh
while case "\$1" in -*) true ;; *) false ;; esac; do shift; done
host=\${1##*.}; shift
exec ip netns exec "$name-\$host" sh -c "\$*"
END
chmod +x "$out/launch"

deno=$(npx -y deno@2.9.6 eval 'console.log(Deno.execPath())')
train() {
  where=$1; shift
  timeout -k 5 300 "$@" -n 2 "$deno" run -q -P=train --allow-ffi lib/cli/main.ts train tests/golden/llama/run.yaml "--output_dir=$out/$where" \
    --max_steps=3 --save_strategy=no --share_gpu --log_level=warning $keys
}
keys=$*
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" FI_PROVIDER=tcp UCX_TLS=tcp,self
train one "$mpiexec"
train two ip netns exec "$name-1" "$mpiexec" -hosts 10.77.7.1,10.77.7.2 -ppn 1 -launcher ssh -launcher-exec "$out/launch"
cmp "$out/one/model.safetensors" "$out/two/model.safetensors"
sent=$(ip netns exec "$name-1" cat "/sys/class/net/$name-a/statistics/tx_bytes")
echo "the same bytes from two hosts as from one; $sent bytes went over the line"
