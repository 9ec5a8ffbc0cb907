#!/bin/sh
# What the program needs of the system: Python 3.11 with venv, and the libraries Qt's widgets and X11 platform link against. Recommended
# is a C++ compiler: without one there are no native kernels, and everything runs through torch.
# Root on Debian or Ubuntu: install what is missing; anyone else: say the line that does.
python=${1:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or newer is needed; '$python' is not. Install it, or name it: make run PYTHON=python3.12" >&2
    exit 1
fi
command -v dpkg-query >/dev/null 2>&1 || exit 0
needed="libegl1 libgl1 libxkbcommon0 libxkbcommon-x11-0 libdbus-1-3 libfontconfig1 libglib2.0-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 fonts-dejavu-core"
"$python" -c 'import ensurepip' 2>/dev/null || needed="$needed python3-venv"
missing=""
for package in $needed; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" \
        || dpkg-query -W -f='${Status}' "${package}t64" 2>/dev/null | grep -q "ok installed" \
        || missing="$missing $package"
done
if ! command -v "${CXX:-c++}" >/dev/null 2>&1 && ! command -v g++ >/dev/null 2>&1 && ! command -v clang++ >/dev/null 2>&1; then
    missing="$missing g++"
    echo "No C++ compiler was found. With one (package g++) the native kernels are built; without, all runs through torch, slower." >&2
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    echo "Installing the system packages that are missing:$missing" >&2
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) >/dev/null \
        || echo "They could not be installed; without them the window may not open. By hand: apt-get install$missing" >&2
else
    echo "System packages are missing. Install them with:" >&2
    echo "    sudo apt-get install$missing" >&2
fi
exit 0
