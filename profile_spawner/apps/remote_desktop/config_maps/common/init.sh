#!/bin/sh
# Runs in the workspace before the server starts. It does not change existing files of the user.
set -eu
cd "$HOME"

if [ ! -e README.md ]; then
  cat > README.md <<'TEXT'
# Your workspace

Everything in this folder is kept when your server stops. All profiles show the same files.

- The settings of the desktop are in `.config`, its icons in `Desktop`.
- The profile provides the settings of the shell. Put your own settings into `~/.bashrc.local`.
TEXT
fi

mkdir -p Desktop .config .local/share
[ -e Desktop/Workspace ] || ln -s "$HOME" Desktop/Workspace
if [ ! -e Desktop/readme.desktop ]; then
  cat > Desktop/readme.desktop <<'ENTRY'
[Desktop Entry]
Type=Link
Name=Read me
Icon=help-about
ENTRY
  printf 'URL=file://%s/README.md\n' "$HOME" >> Desktop/readme.desktop
fi

# Defaults for git, unless the user has set them.
set_default() {
  git config --global --get "$1" > /dev/null || git config --global "$1" "$2"
}
if command -v git > /dev/null; then
  set_default init.defaultBranch main
  set_default user.name "$PROFILE_USER"
fi
