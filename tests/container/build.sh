#!/usr/bin/env bash
# Build the image and from it the file that Apptainer runs, from nothing, on a Debian machine, as root:
#
#     tests/container/build.sh [tools] [base] [image] [tidy] [archive] [apptainer] [sif] [validator] [report]    (none: all)
#
# What exists is used again. Everything is kept below CLIPMUSED_CONTAINER_DIR. The base image is made here by debootstrap,
# since a registry may be out of reach; CLIP weights and templates are left out unless IMAGE_ARGS says otherwise.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=${CLIPMUSED_CONTAINER_DIR:-/var/tmp/clipmused-container}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/clipmused_bids/__init__.py")
image=clipmused-bids:$version
base=localhost/debian:bookworm-slim
archive=$work/clipmused-bids.oci.tar
sif=$work/clipmused-bids.sif

export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER:-overlay}
buildah=(buildah --root "$work/storage" --runroot "$work/storage-run")

say() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }

tools() {
  local missing=()
  command -v buildah >/dev/null || missing+=(buildah)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v bwrap >/dev/null || missing+=(bubblewrap)
  command -v setpriv >/dev/null || missing+=(util-linux)
  python3 -c 'import venv' 2>/dev/null || missing+=(python3 python3-venv)
  [ ${#missing[@]} -eq 0 ] && return
  say "installing ${missing[*]}"
  apt-get update
  apt-get install --yes --no-install-recommends ca-certificates "${missing[@]}"
}

base() {
  if "${buildah[@]}" inspect --type image "$base" >/dev/null 2>&1; then return; fi
  say "debootstrap of bookworm"
  rm -rf "$work/base-root.part"
  debootstrap --variant=minbase bookworm "$work/base-root.part" >"$work/base.log"
  rm -rf "$work/base-root.part/var/cache/apt/archives"/*.deb "$work/base-root.part/var/lib/apt/lists"/*
  local container
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" add --quiet "$container" "$work/base-root.part" /
  "${buildah[@]}" config --cmd /bin/bash "$container"
  "${buildah[@]}" commit --quiet --rm "$container" "$base"
  rm -rf "$work/base-root.part"
}

image() {
  local secrets=() revision
  # Where traffic passes a proxy with certificates of its own, and pip has its own index.
  [ -s "${SSL_CERT_FILE:-}" ] && secrets+=(--secret "id=certificates,src=$SSL_CERT_FILE")
  [ -s "${PIP_CONFIG_FILE:-}" ] && secrets+=(--secret "id=pip,src=$PIP_CONFIG_FILE")
  revision=$(git -C "$source" rev-parse HEAD 2>/dev/null || echo unknown)
  say "building $image"
  # shellcheck disable=SC2086  # IMAGE_ARGS holds several words.
  "${buildah[@]}" build --layers --file "$source/Containerfile" --tag "$image" \
    --build-arg "BASE_IMAGE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg CLIP_MODEL= --build-arg TEMPLATES= ${IMAGE_ARGS:-} "${secrets[@]}" "$source" 2>&1 | tee "$work/image.log"
}

# Layers that the last build did not use are of no more use to the next: each may be 5 GB.
tidy() {
  local id used
  "${buildah[@]}" rm --all >/dev/null
  used=$(for id in "$base" "$image"; do "${buildah[@]}" inspect --type image --format '{{.FromImageID}}' "$id"; done | tr '\n' ' ')
  used+=$(sed -nE 's/^--> (Using cache )?([0-9a-f]{11}).*/\2/p' "$work/image.log" | tr '\n' ' ')
  # Newest first, so that what others were made from goes after them.
  for id in $("${buildah[@]}" images --all --quiet --no-trunc); do
    id=${id#sha256:}
    case " $used" in
      *" ${id:0:11}"*) ;;
      # With an image go those it alone was made from, which come later in this list.
      *) "${buildah[@]}" rmi "$id" >/dev/null 2>&1 || true ;;
    esac
  done
}

digest() { "${buildah[@]}" inspect --type image --format '{{.FromImageID}}' "$image"; }

archive() {
  if [ -s "$archive" ] && [ "$(cat "$archive.of" 2>/dev/null)" = "$(digest)" ]; then return; fi
  say "writing $archive"
  rm -f "$archive" "$archive.of"
  "${buildah[@]}" push --quiet --compression-format gzip --compression-level 1 "$image" "oci-archive:$archive:$image"
  digest >"$archive.of"
}

apptainer() {
  "$here/apptainer.sh" --version
}

sif() {
  if [ -s "$sif" ] && cmp -s "$archive.of" "$sif.of"; then return; fi
  say "building $sif"
  rm -rf "$sif" "$sif.of" "$work/sif-build"
  mkdir -p "$work/sif-build"
  cp "$source/singularity.def" "$work/sif-build/"
  ln "$archive" "$work/sif-build/clipmused-bids.oci.tar"
  # The fastest compression: what is tested here is not kept.
  (
    cd "$work/sif-build"
    APPTAINER_CACHEDIR=$work/sif-build/cache APPTAINER_TMPDIR=$work/sif-build "$here/apptainer.sh" build \
      --mksquashfs-args "${MKSQUASHFS_ARGS:--comp zstd -Xcompression-level 1}" "$sif" singularity.def
  ) 2>&1 | tee "$work/sif.log"
  rm -rf "$work/sif-build"
  cp "$archive.of" "$sif.of"
}

# The official validator looks at what the image writes; the environment of the other tests has it.
validator() {
  if [ -x "$source/.venv/bin/bids-validator-deno" ] || [ -x "$work/validator/bin/bids-validator-deno" ]; then return; fi
  python3 -m venv "$work/validator"
  "$work/validator/bin/pip" install --quiet 'bids-validator-deno>=2.0'
}

report() {
  say "image: $("${buildah[@]}" images --format '{{.Size}}' "$image") unpacked, $(du -h --apparent-size "$archive" | cut -f1) as archive"
  say "file for Apptainer: $(du -h --apparent-size "$sif" | cut -f1); this call took $SECONDS s"
}

mkdir -p "$work"
export TMPDIR="$work/tmp"
mkdir -p "$TMPDIR"
for step in "${@:-all}"; do
  case $step in
    all) for each in tools base image tidy archive apptainer sif validator report; do "$each"; done ;;
    tools | base | image | tidy | archive | apptainer | sif | validator | report) "$step" ;;
    *) echo "usage: $0 [tools] [base] [image] [tidy] [archive] [apptainer] [sif] [validator] [report]" >&2; exit 64 ;;
  esac
done
