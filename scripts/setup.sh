#!/bin/sh
# Makes an environment inside the checkout from its lock, and does nothing if it is ready.
#
#   sh scripts/setup.sh           .venv          fieldmart, everything that runs it and tests it, and a Java
#   sh scripts/setup.sh airflow   .venv-airflow  Airflow, which pins too much to live beside the rest
#   sh scripts/setup.sh uv        prints the uv that the other two use
#
# Needs git's checkout and a python3 with pip or venv, or uv. Everything it makes lies inside the checkout:
# .uv/ (uv, and a Python that uv had to fetch) and the environments. Interrupted, it starts over at the next call.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
private=$root/.uv
pythons='3.12 3.13'

say() { echo "fieldmart setup: $*" >&2; }
die() {
  say "$@"
  exit 1
}

works() { "$@" >/dev/null 2>&1; }

# uv brings its own list of certificates; where the machine has one (of a company's proxy, say), that one counts, as it
# does for pip. Two names, for newer and older uv.
for certificates in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /usr/bin/security; do
  if [ -s "$certificates" ]; then
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}" UV_NATIVE_TLS="${UV_NATIVE_TLS:-true}"
  fi
done

# --- uv -------------------------------------------------------------------------------------------------------------

# The options that are used here tell an uv that is too old from one that will do.
new_enough() { "$1" pip sync --help 2>/dev/null | grep -q -e --build-constraints; }

# A command that runs pip: of the first python3 that has one, else of a throw-away environment.
find_pip() {
  for python in python3 python3.13 python3.12 python /usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3; do
    works "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' || continue
    if works "$python" -m pip --version; then
      pip_python=$python
      return
    fi
    if works "$python" -m venv "$private/venv"; then
      pip_python=$private/venv/bin/python
      return
    fi
  done
  rm -rf "$private/venv"
  die "needs uv, or a python3 with pip or venv; found neither (Debian: apt-get install python3-venv;" \
    "macOS: xcode-select --install)"
}

find_uv() {
  if new_enough uv; then
    uv=uv
    return
  fi
  uv=$private/tool/bin/uv
  if works "$uv" --version && cmp -s bootstrap.lock "$private/tool/bootstrap.lock"; then
    return
  fi
  find_pip
  say "installing uv into .uv/"
  rm -rf "$private/new" "$private/tool"
  # A user's own pip settings must not stop an install into a folder.
  PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    "$pip_python" -m pip install --quiet --require-hashes --only-binary :all: \
    --target "$private/new" -r bootstrap.lock >&2 ||
    die "pip could not install uv (see above)"
  cp bootstrap.lock "$private/new/bootstrap.lock"
  mv "$private/new" "$private/tool"
  rm -rf "$private/venv"
}

# --- Python ---------------------------------------------------------------------------------------------------------

right_python() { works "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))'; }

# Sets python to an installed 3.12, else 3.13, else to one that uv fetches into .uv/. Version managers are looked into
# as well: a shim on the PATH that does not work for this folder says nothing about what is installed.
find_python() {
  for version in $pythons; do
    for python in "$(UV_PYTHON_DOWNLOADS=never "$uv" python find --system "cpython@$version" 2>/dev/null)" \
      "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python "$private"/python/cpython-"$version".*/bin/python; do
      if right_python "$python"; then return; fi
    done
  done
  say "no Python 3.12 or 3.13 is installed: fetching one into .uv/"
  works env UV_PYTHON_INSTALL_BIN=0 "$uv" python install --quiet --install-dir "$private/python" 3.12 || true
  for python in "$private"/python/cpython-3.12.*/bin/python; do
    if right_python "$python"; then return; fi
  done
  die "no Python 3.12 or 3.13 is installed, and uv could not fetch one; install it (Debian 13: apt-get install" \
    "python3; macOS: brew install python@3.12; anywhere: pyenv install 3.12) and run this again"
}

# --- environments ---------------------------------------------------------------------------------------------------

# All that the environment follows from; kept in it, as the last thing, once it is ready.
recipe() {
  echo "$root/$env"
  cat scripts/setup.sh bootstrap.lock $inputs
}

ready() { [ -x "$env/bin/python" ] && recipe | cmp -s - "$env/.ready"; }

# An environment cannot be moved, and its interpreter may be gone: then it is made anew.
usable() { right_python "$env/bin/python" && grep -qF "$root/$env" "$env/bin/activate"; }

sync_environment() {
  rm -f "$env/.ready"
  if ! usable; then
    find_python
    rm -rf "$env"
    "$uv" venv --quiet --no-project --python "$python" "$env"
  fi
  say "installing $(grep -c '^[a-z0-9]' "$1") packages into $env/ (the first time takes minutes)"
  # Quiet where nobody watches: uv's progress is for a terminal.
  [ -t 2 ] && quiet='' || quiet=--quiet
  # Compiled once here rather than at every start where Python may not write beside its modules: dbt alone has 2,000.
  "$uv" pip sync $quiet --compile-bytecode --python "$env/bin/python" --require-hashes \
    --build-constraints bootstrap.lock "$1"
}

case ${1:-project} in
project)
  env=.venv inputs='pyproject.toml requirements.lock'
  if ready; then exit 0; fi
  find_uv
  sync_environment requirements.lock
  "$uv" pip install --quiet --python "$env/bin/python" --no-deps --no-build-isolation --editable .
  "$env/bin/python" -m jobs.java >/dev/null
  ;;
airflow)
  env=.venv-airflow inputs=airflow_dags/requirements.lock
  if ready; then exit 0; fi
  find_uv
  sync_environment airflow_dags/requirements.lock
  ;;
uv)
  find_uv
  echo "$uv"
  exit 0
  ;;
*) die "what must be project, airflow or uv, got $1" ;;
esac
recipe >"$env/.ready"
say "$env/ is ready"
