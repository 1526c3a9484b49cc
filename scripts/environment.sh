# Sourced by scripts/test and scripts/demo: goes to the repository's root and makes or reuses .venv.
# shellcheck shell=bash
# PYTHON chooses the interpreter for a new .venv; otherwise the first python3 on the path that is new enough.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_new_enough "$candidate"; then printf '%s' "$candidate"; return; fi
    done
    fail "Flashcrowd needs Python 3.11 or newer; found ${PYTHON:-$(python3 --version 2>&1 || true)} (choose another: PYTHON=/path/to/python3.12 $0)"
}

# prepare_environment EXTRA: .venv with the project (editable) and the extra `embedded` or `dev`, at the locked versions.
# Does nothing when a stamp says that exactly this has been installed before.
prepare_environment() {
    local extra=$1 python locked
    if ! [ -x .venv/bin/python ] || ! is_new_enough .venv/bin/python; then
        python=$(find_python) || exit 1
        say "making .venv with $("$python" --version)"
        "$python" -m venv .venv || fail "could not make .venv (on Debian and Ubuntu: apt install python3-venv)"
    fi
    locked=$(cat pyproject.toml constraints.txt requirements-embedded.txt | cksum)
    # `dev` contains `embedded`, so its stamp is good for both.
    if [ "$(cat ".venv/installed-$extra" 2>/dev/null)" = "$locked" ] || [ "$(cat .venv/installed-dev 2>/dev/null)" = "$locked" ]; then
        return
    fi
    say "installing flashcrowd[$extra] into .venv (once; a few hundred megabytes)"
    .venv/bin/python -m pip install --require-hashes --no-deps -r requirements-embedded.txt \
        && .venv/bin/python -m pip install --constraint constraints.txt --editable ".[$extra]" \
        || fail "the installation failed; the reason stands above"
    printf '%s' "$locked" >".venv/installed-$extra"
}
