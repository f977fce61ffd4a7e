# Makes a unit of the Debian package of one that is installed by hand: sed -f deploy/debian/unit.sed deploy/corelay.service
# The commands to install it are not for the package.
/^# systemd unit/,/^$/d
s#^Documentation=.*#Documentation=man:corelay(1)#
s#/usr/local/bin/corelay#/usr/bin/corelay#
# The package has a user, who can own files of keys, and may run the commands for the store.
s/^DynamicUser=yes/User=corelay/
