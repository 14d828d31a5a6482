#!/bin/sh
# Runs before the server starts, with its volumes. It does not change existing files of the user.
set -eu
mkdir -p /workspace/.local/share /workspace/.envs /workspace/Desktop
if [ ! -e /workspace/.condarc ]; then
  printf 'envs_dirs:\n  - /workspace/.envs\n' > /workspace/.condarc
fi
