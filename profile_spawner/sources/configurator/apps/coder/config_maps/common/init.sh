#!/bin/sh
# Runs before the server starts, with its volumes. It does not change existing files of the user.
set -eu
mkdir -p /workspace/.local/share
settings=/workspace/.local/share/code-server/User/settings.json
if [ ! -e "$settings" ]; then
  mkdir -p "$(dirname "$settings")"
  printf '{\n  "telemetry.telemetryLevel": "off",\n  "terminal.integrated.defaultProfile.linux": "bash"\n}\n' > "$settings"
fi
