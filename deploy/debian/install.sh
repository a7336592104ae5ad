#!/bin/sh
# Installs the agent on Debian (or a derivative) under its own user, from a clone of this
# repository. To upgrade, run it again. As root:  deploy/debian/install.sh
set -eu
cd "$(dirname "$0")/../.."

apt-get install --yes python3-venv adduser

# The user has no shell and no password, and owns only its state.
getent passwd oda >/dev/null ||
    adduser --system --group --home /var/lib/oda --no-create-home oda

[ -x /opt/oda/bin/python ] || python3 -m venv /opt/oda
/opt/oda/bin/pip install --upgrade .
ln -sf /opt/oda/bin/oda /usr/local/bin/oda
# Twisted stores a list of its plugins beside them, where the user oda can't write. Without the
# list, each start would load all plugins.
/opt/oda/bin/twistd --help >/dev/null

# Root writes the configuration, the agent reads it, and no other user may: it holds the API key.
# Existing files are unchanged.
install -d -o root -g oda -m 0750 /etc/oda
for file in conf/*.cfg; do
    [ -e "/etc/oda/$(basename "$file")" ] ||
        install -o root -g oda -m 0640 "$file" /etc/oda/
done

install -m 0644 deploy/systemd/oda.service /etc/systemd/system/oda.service
systemctl daemon-reload
systemctl enable oda.service

if systemctl is-active --quiet oda.service; then
    systemctl restart oda.service
else
    echo "Put the platform's address and the API key into /etc/oda, then: systemctl start oda"
fi
