#!/bin/sh
# Runs in the workspace before the server starts. It does not change existing files of the user.
set -eu
cd "$HOME"

if [ ! -e README.md ]; then
  cat > README.md <<'TEXT'
# Your workspace

Everything in this folder is kept when your server stops. All profiles show the same files.

- Projects go into `projects/`; `venv` in the terminal creates a virtual environment in the current folder.
- The profile provides the settings of the shell. Put your own settings into `~/.bashrc.local`.
TEXT
fi
mkdir -p projects

settings=.local/share/code-server/User/settings.json
if [ ! -e "$settings" ]; then
  mkdir -p "$(dirname "$settings")"
  cat > "$settings" <<'JSON'
{
  "files.autoSave": "afterDelay",
  "telemetry.telemetryLevel": "off",
  "terminal.integrated.defaultProfile.linux": "bash",
  "terminal.integrated.profiles.linux": {"bash": {"path": "/bin/bash", "args": ["-l"]}},
  "workbench.startupEditor": "readme"
}
JSON
fi

# Defaults for git, unless the user has set them.
set_default() {
  git config --global --get "$1" > /dev/null || git config --global "$1" "$2"
}
if command -v git > /dev/null; then
  set_default init.defaultBranch main
  set_default pull.rebase false
  set_default core.editor "code-server --wait"
  set_default user.name "$PROFILE_USER"
fi
