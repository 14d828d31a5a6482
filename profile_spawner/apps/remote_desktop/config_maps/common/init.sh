#!/bin/sh
# Runs before the server starts, on the workspace. What the user has is never touched.
set -eu
cd "$HOME"

if [ ! -e README.md ]; then
  cat > README.md <<'TEXT'
# Your workspace

Everything in this folder is kept when your server stops, and is the same in all profiles.

- The desktop's own settings lie in `.config`, its icons in `Desktop`.
- The shell's settings come with the profile; put your own into `~/.bashrc.local`.
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

# Defaults for git, only where the user has not chosen.
set_default() {
  git config --global --get "$1" > /dev/null || git config --global "$1" "$2"
}
if command -v git > /dev/null; then
  set_default init.defaultBranch main
  set_default user.name "$PROFILE_USER"
fi
