#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the real programs that `make test-interop` and `make bench` talk to, from Debian's packages.
# Nothing is enabled as a service: the tests start each program themselves, on loopback, in a folder of their own.
# Exim and Postfix exclude each other as packages, so Exim is unpacked into var/interop/exim instead of installed.
set -eu
cd "$(dirname "$0")/.."

servers="postfix dovecot-core dovecot-pop3d dovecot-imapd dovecot-lmtpd"
clients="swaks libnet-ssleay-perl libauthen-sasl-perl curl fetchmail mpop getmail6 msmtp mutt"
imap_clients="isync offlineimap3 alpine thunderbird python3-venv"
databases="postgresql"
# Who checks letters, and the DNS of the tests: unbound validates what BIND serves, signed with BIND's tools.
trust="opendkim opendmarc unbound bind9 bind9-utils bind9-dnsutils openssl libxml2-utils"
authorities="pebble"
wanted="$servers $clients $imap_clients $databases $trust $authorities"
[ "${1:-}" = bench ] && wanted="$servers isync python3-venv opendkim opendmarc unbound"
# Node.js is Debian's unless there is one already, which Debian's npm package could exclude.
command -v npm > /dev/null || wanted="$wanted nodejs npm"

imapclient_version=4.1.0
imap_tools_version=1.16.0
imapflow_version=2.10.2
aiosmtpd_version=1.4.6
haraka_version=3.3.4

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

# unpack FOLDER PROGRAM PACKAGE...: what excludes Postfix as a package can still lie beside it.
unpack() {
    folder="var/interop/$1" program="$2"
    shift 2
    [ -x "$folder/$program" ] && return
    mkdir -p "$folder/packages"
    (cd "$folder/packages" && apt-get download -qq "$@") || echo "could not download: $*" >&2
    for package in "$folder"/packages/*.deb; do
        if [ -e "$package" ]; then dpkg -x "$package" "$folder"; fi
    done
}
unpack exim usr/sbin/exim4 exim4-base exim4-daemon-light

# Exim runs as this user, whose name is compiled in; its package would make it.
if [ "$(id -u)" = 0 ] && ! id Debian-exim > /dev/null 2>&1; then
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
fi

# The IMAP libraries, in folders of their own: none is a dependency of the project. What cannot be had is told, and its
# tests are skipped.
if [ "${1:-}" != bench ]; then
    python="var/interop/python" node="var/interop/node"
    [ -x "$python/bin/pip" ] || python3 -m venv "$python"
    # It asks nobody when both are there.
    "$python/bin/pip" install -q "imapclient==$imapclient_version" "imap-tools==$imap_tools_version" \
        || echo "imapclient and imap-tools could not be installed" >&2
    mkdir -p "$node"
    if ! grep -qs "\"version\": \"$imapflow_version\"" "$node/node_modules/imapflow/package.json"; then
        npm install --silent --no-audit --no-fund --prefix "$node" "imapflow@$imapflow_version" \
            || echo "imapflow could not be installed" >&2
    fi
    exit 0
fi

# The benchmarks' other peers. What cannot be had is told, and the report shows that peer as not installed.
unpack opensmtpd usr/sbin/smtpd opensmtpd libevent-2.1-7
if [ ! -x var/bench/aiosmtpd/bin/aiosmtpd ]; then
    python3 -m venv var/bench/aiosmtpd && var/bench/aiosmtpd/bin/pip install -q "aiosmtpd==$aiosmtpd_version" \
        || echo "aiosmtpd could not be installed" >&2
fi
if [ ! -d var/bench/haraka/node_modules/Haraka ]; then
    mkdir -p var/bench/haraka
    npm install --silent --no-audit --no-fund --omit=optional --prefix var/bench/haraka "Haraka@$haraka_version" \
        || echo "Haraka could not be installed" >&2
fi
