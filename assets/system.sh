#!/bin/sh
# The system libraries Qt's widgets and X11 platform link against. Root on Debian or Ubuntu: install; anyone else: say the line.
needed="libegl1 libgl1 libxkbcommon0 libxkbcommon-x11-0 libdbus-1-3 libfontconfig1 libglib2.0-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 fonts-dejavu-core"
command -v dpkg-query >/dev/null 2>&1 || exit 0
missing=""
for package in $needed; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" \
        || dpkg-query -W -f='${Status}' "${package}t64" 2>/dev/null | grep -q "ok installed" \
        || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    echo "Installing the system libraries the window needs:$missing" >&2
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) >/dev/null \
        || echo "They could not be installed; without them the window may not open. By hand: apt-get install$missing" >&2
else
    echo "The window needs system libraries that are missing. Install them with:" >&2
    echo "    sudo apt-get install$missing" >&2
fi
exit 0
