#!/bin/sh
# Runs the C tests on 64-bit Arm: Debian's cross-compiler, and qemu in place of the machine.
set -eu
packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

have() { command -v "$1" >/dev/null; }

if ! have aarch64-linux-gnu-gcc || ! have qemu-aarch64; then
    if ! have apt-get || [ "$(id -u)" != 0 ]; then
        echo "make neon needs an Arm cross-compiler and qemu. On Debian, as root: apt-get install $packages" >&2
        exit 1
    fi
    apt-get update -qq
    apt-get install -qq --no-install-recommends $packages
fi

CC=aarch64-linux-gnu-gcc CFLAGS="-O3 -static" RUN=qemu-aarch64 sh "$(dirname "$0")/run.sh"
