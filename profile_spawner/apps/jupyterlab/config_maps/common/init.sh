#!/bin/sh
# Runs in the workspace before the server starts. It does not change existing files of the user.
set -eu
cd "$HOME"

if [ ! -e README.md ]; then
  cat > README.md <<'TEXT'
# Your workspace

Everything in this folder is kept when your server stops. All profiles show the same files.

- `examples/first-steps.ipynb` shows what this server has.
- The profile provides the settings of the shell. Put your own settings into `~/.bashrc.local`.
TEXT
fi

mkdir -p examples
if [ ! -e examples/first-steps.ipynb ]; then
  cat > examples/first-steps.ipynb <<'NOTEBOOK'
{
 "cells": [
  {
   "cell_type": "markdown",
   "metadata": {},
   "source": ["# First steps\n", "\n", "Run the cell below (Shift+Enter) to see the resources of your profile."]
  },
  {
   "cell_type": "code",
   "execution_count": null,
   "metadata": {},
   "outputs": [],
   "source": [
    "import os\n",
    "import shutil\n",
    "\n",
    "free = shutil.disk_usage(os.environ['HOME']).free / 2**30\n",
    "print('Profile:  ', os.environ.get('PROFILE_NAME'))\n",
    "print('CPU cores:', os.environ.get('CPU_LIMIT', 'not limited'))\n",
    "print('Memory:   ', int(os.environ.get('MEM_LIMIT', 0)) // 2**20, 'MiB')\n",
    "print('GPUs:     ', os.environ.get('PROFILE_GPUS', '0'))\n",
    "print('Disk:     ', round(free), 'GiB free')"
   ]
  }
 ],
 "metadata": {
  "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
  "language_info": {"name": "python"}
 },
 "nbformat": 4,
 "nbformat_minor": 4
}
NOTEBOOK
fi

# Turn off JupyterLab's question whether to show news.
settings=.jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings
if [ ! -e "$settings" ]; then
  mkdir -p "$(dirname "$settings")"
  echo '{"fetchNews": "false"}' > "$settings"
fi

# Defaults for git, unless the user has set them.
set_default() {
  git config --global --get "$1" > /dev/null || git config --global "$1" "$2"
}
if command -v git > /dev/null; then
  set_default init.defaultBranch main
  set_default pull.rebase false
  set_default user.name "$PROFILE_USER"
fi
