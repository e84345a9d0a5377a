#!/usr/bin/env bash
# Run apptainer with the given arguments, as a user without rights:
#
#     [CLIPMUSED_UID=N] tests/container/apptainer.sh ARGUMENTS...
#
# bookworm has no apptainer. Root is needed to make and enter a Debian sid that has it; the paths of this machine are the
# same in there (apart from those of its system), and so are the working directory and the network. Inside, apptainer runs
# in a user namespace: as root of that namespace, or, with CLIPMUSED_UID, as that user, which is what happens on a cluster.
set -euo pipefail
work=${CLIPMUSED_CONTAINER_DIR:-/var/tmp/clipmused-container}
root=$work/apptainer-root

if [ ! -e "$root/usr/bin/apptainer" ]; then
  mkdir -p "$work"
  rm -rf "$root.part"
  debootstrap --variant=minbase --include=ca-certificates,apptainer,squashfs-tools,squashfuse,fuse-overlayfs \
    sid "$root.part" >"$work/apptainer-root.log"
  rm -rf "$root.part/var/cache/apt/archives"/*.deb "$root.part/var/lib/apt/lists"/*
  mv "$root.part" "$root"
fi

# Only in the mount namespace of this call; nothing is left behind when it ends.
# shellcheck disable=SC2016  # Expanded by the inner shell.
exec env root="$root" where="$PWD" uid="${CLIPMUSED_UID:-}" unshare --mount --propagation private bash -euc '
  mount --bind "$root" "$root"
  for folder in /*; do
    case $folder in
      /bin | /boot | /etc | /lib* | /sbin | /usr | /var) continue ;;
    esac
    [ -d "$folder" ] && [ ! -L "$folder" ] || continue
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
  done
  mkdir -p "$root/var/tmp"
  mount --bind /var/tmp "$root/var/tmp"
  # Every user may use FUSE, as on a usual machine; here it may be the privilege of root.
  if [ -c /dev/fuse ]; then
    [ -c "$root/fuse" ] || mknod -m 666 "$root/fuse" c 10 229
    mount --bind "$root/fuse" "$root/dev/fuse"
  fi
  cp /etc/hosts /etc/resolv.conf "$root/etc/"
  if [ -n "$uid" ] && ! grep -q "^[^:]*:[^:]*:$uid:" "$root/etc/passwd"; then
    echo "user$uid:x:$uid:$uid::/home/user$uid:/bin/sh" >>"$root/etc/passwd"
    echo "user$uid:x:$uid:" >>"$root/etc/group"
  fi
  cd "$root"
  mkdir -p .before
  pivot_root . .before
  umount --lazy /.before
  cd "$where" 2>/dev/null || cd /
  unset root where
  if [ -n "$uid" ]; then
    export HOME=/home/user$uid
    exec setpriv --reuid "$uid" --regid "$uid" --clear-groups apptainer "$@"
  fi
  exec unshare --user --map-root-user apptainer "$@"
' bash "$@"
