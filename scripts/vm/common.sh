# shellcheck shell=bash
# Sourced by the scripts that start a guest: where the parts are, and how to speak to the person in front.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Guest images and the verdict on KVM; safe to delete at any time.
# shellcheck disable=SC2034  # used by the scripts that source this
vm_cache=${FUSEWIRE_VM_CACHE:-$root/build/vm}

heading() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Prints the guest kernel's path: the newest cloud kernel of Debian, or what FUSEWIRE_GUEST_KERNEL names.
guest_kernel() {
  local kernel=${FUSEWIRE_GUEST_KERNEL-}
  if [[ -z $kernel ]]; then
    # shellcheck disable=SC2012  # kernel names hold no blanks, and ls sorts by version
    kernel=$(ls -v /boot/vmlinuz-*-cloud-amd64 2>/dev/null | tail -n 1)
  fi
  [[ -r $kernel ]] || die "no guest kernel in /boot; run scripts/install-deps demo"
  printf '%s\n' "$kernel"
}

# Prints the version of the kernel at path $1, which is the name of its folder in /lib/modules.
kernel_version() {
  local name=${1##*/}
  printf '%s\n' "${name#vmlinuz-}"
}

# Whether $1 is QEMU's virtiofsd, which knows some options only in its own spelling.
is_c_virtiofsd() {
  "$1" --version 2>&1 | grep -q 'using FUSE kernel interface'
}
