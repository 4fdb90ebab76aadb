# Sourced by the run_*.sh scripts: defines `prepare REQUIREMENTS`, which sets PYTHON to an interpreter that has them.
#
# In this order: $PYTHON, the active virtual environment, .venv beside this file (made where it is missing; in the
# user's cache folder where this folder is somebody else's).
# Of several scripts at once, as mpirun starts them, one sets up and the others wait for it.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"

fail() {
    echo "error: $*" >&2
    exit 2
}

is_fit() {
    "$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.10 python3.9 python3.13 python3; do
        if is_fit "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.9 to 3.13 on PATH, which Jittor needs; install one, or name it in PYTHON"
}

find_environment() {
    if [ -w "$ROOT" ] || [ -e "$ROOT/.venv" ]; then
        echo "$ROOT/.venv"
    else
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/jittor-pranet/environment-$(cksum <<<"$ROOT" | cut -d " " -f 1)"
    fi
}

make_environment() {
    local base
    base=$(find_python) || exit 2
    echo "making $1 with $("$base" --version)"
    "$base" -m venv "$1" ||
        fail "$1 cannot be made; install venv (Debian: apt install python3-venv) or free some room"
}

prepare() {
    local requirements="$ROOT/$1" environment stamp lock
    exec {lock}<"$ROOT/setup.sh"
    flock "$lock" || echo "no lock on $ROOT/setup.sh: do not start two scripts at once the first time" >&2
    if [ -z "${PYTHON:-}" ]; then
        if [ -n "${VIRTUAL_ENV:-}" ]; then
            PYTHON=$VIRTUAL_ENV/bin/python
        else
            environment=$(find_environment)
            PYTHON=$environment/bin/python
            "$PYTHON" -c '' 2>/dev/null || make_environment "$environment"
        fi
    fi
    is_fit "$PYTHON" || fail "$PYTHON is no Python 3.9 to 3.13, which Jittor needs; name another in PYTHON"
    # A stamp in the environment saves asking pip each time.
    stamp=$("$PYTHON" -c 'import sys; print(sys.prefix)')/.jittor-pranet-$1
    if ! cat "$ROOT"/requirements* | cmp -s - "$stamp"; then
        echo "installing $1 with $PYTHON"
        if [ "$(uname -sm)" = "Linux x86_64" ]; then
            # By their hashes: the very files that the tests ran with, or none. Jittor is built from its source.
            install --require-hashes -r "$ROOT/requirements-build.lock"
            install --require-hashes --no-build-isolation --no-deps -r "$ROOT/requirements.lock"
        fi
        install --no-warn-conflicts -r "$requirements"
        install --no-deps -r "$ROOT/requirements-jittor.txt"
        cat "$ROOT"/requirements* 2>/dev/null >"$stamp" || true
    fi
    exec {lock}<&-
}

install() {
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "the packages could not be installed (pip install $*); see above"
}
