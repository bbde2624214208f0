#!/bin/sh
# Installs Debian's MPICH where there is no mpiexec, for the tests that start ranks: without one they are passed over by name, so
# that what is missing here is said and is no failure. As root; some seconds, 11 MB.
command -v mpiexec >/dev/null && exit 0
[ -z "$SIMPER_MPIEXEC" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -y -q --no-install-recommends mpich; } >/dev/null ||
  echo "no mpiexec, and Debian's mpich could not be installed: tests that start ranks are skipped" >&2
