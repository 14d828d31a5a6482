#!/bin/sh
# Runs before the server starts, on the workspace. What the user has is never touched.
set -eu
cd "$HOME"

if [ ! -e README.md ]; then
  cat > README.md <<'TEXT'
# Your workspace

Everything in this folder is kept when your server stops, and is the same in all profiles.

- Projects go into `projects/`; `venv` in the terminal makes a virtual environment for the one you are in.
- The shell's settings come with the profile; put your own into `~/.bashrc.local`.
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

# Defaults for git, only where the user has not chosen.
set_default() {
  git config --global --get "$1" > /dev/null || git config --global "$1" "$2"
}
if command -v git > /dev/null; then
  set_default init.defaultBranch main
  set_default pull.rebase false
  set_default core.editor "code-server --wait"
  set_default user.name "$PROFILE_USER"
fi
