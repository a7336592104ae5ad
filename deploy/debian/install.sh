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
install -d -o root -g oda -m 0750 /etc/oda
install -d -o oda -g oda -m 0750 /var/lib/oda

install -m 0644 deploy/systemd/oda.service /etc/systemd/system/oda.service
systemctl enable oda.service

# While an image is being made, systemd does not run: it starts the service at the first boot.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # Starts nothing while /etc/oda is empty: see the unit's conditions.
    systemctl restart oda.service
fi
[ -n "$(ls /etc/oda)" ] ||
    echo "Next: oda init /etc/oda --user oda, then: systemctl start oda"
