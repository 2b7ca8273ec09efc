# shellcheck shell=bash
# Installs Debian packages for the scripts that source this. Other systems are told what to install.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# install_packages PACKAGE:FILE ...: each that is missing, with the file that shows that it is there.
install_packages() {
    local missing=() entry
    for entry in "$@"; do
        [ -e "${entry#*:}" ] || missing+=("${entry%%:*}")
    done
    # The system's own python3: another one may come first in PATH.
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "$0: install these first: ${missing[*]} (this script knows Debian's packages only)" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    # No server is wanted running: its users start their own, on free ports.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
