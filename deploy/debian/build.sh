#!/bin/sh
# Builds the Debian package for this machine's architecture and Debian version, from a clone of this
# repository, into the directory that the first argument names (dist where there is none). It needs
# no root:  deploy/debian/build.sh
set -eu
mkdir -p "${1:-dist}"
target=$(cd "${1:-dist}" && pwd)
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
tar -cf - --exclude=__pycache__ pyproject.toml setup.py setup.cfg MANIFEST.in \
    README.md CHANGELOG.md SECURITY.md CONTRIBUTING.md LICENSE oda twisted conf docs deploy |
    tar -xf - -C "$work/source"
cp -r deploy/debian/package "$work/source/debian"
# The same date for all files, and for the time of the build: the changelog's.
(cd "$work/source" && dpkg-buildpackage --build=binary --unsigned-changes --no-pre-clean)
cp "$work"/*.deb "$target/"
ls "$target"/*.deb
