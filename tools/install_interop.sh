#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the real programs that `make test-interop` and `make bench` talk to, from Debian's packages.
# Nothing is enabled as a service: the tests start each program themselves, on loopback, in a folder of their own.
# Exim and Postfix exclude each other as packages, so Exim is unpacked into var/interop/exim instead of installed.
set -eu
cd "$(dirname "$0")/.."

servers="postfix dovecot-core dovecot-pop3d dovecot-imapd dovecot-lmtpd"
clients="swaks libnet-ssleay-perl libauthen-sasl-perl curl fetchmail mpop getmail6 msmtp mutt"
databases="postgresql"
wanted="$servers $clients $databases"
[ "${1:-}" = bench ] && wanted="$servers"

missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "these packages are missing and need root to install:$missing" >&2
        echo "  apt-get install$missing" >&2
        exit 0
    fi
    # No service is started or enabled by the installation.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    apt-get update -qq
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    # shellcheck disable=SC2086 - the list is meant to be split
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

if [ "${1:-}" != bench ] && [ ! -x var/interop/exim/usr/sbin/exim4 ]; then
    mkdir -p var/interop/exim/packages
    (cd var/interop/exim/packages && apt-get download -qq exim4-base exim4-daemon-light) || true
    for package in var/interop/exim/packages/*.deb; do
        [ -e "$package" ] && dpkg -x "$package" var/interop/exim
    done
fi

# Exim runs as this user, whose name is compiled in; its package would make it.
if [ "${1:-}" != bench ] && [ "$(id -u)" = 0 ] && ! id Debian-exim > /dev/null 2>&1; then
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
fi
