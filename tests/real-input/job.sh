#!/bin/sh
# Everything an image build asks of a real root, on a Debian base. tests/tests/end_to_end/real_input.rs checks what becomes of it.
set -eu
umask 022

# A package, offline. Its logs hold the clock.
dpkg -i /var/tmp/debs/*.deb
rm -r /var/tmp/debs /var/log/dpkg.log /var/log/alternatives.log

# Users and owners, beyond 16 and 21 bits too.
useradd --create-home --uid 1500 --shell /bin/sh app
chown -R app:app /opt/app
mkdir /srv/real && cd /srv/real
echo owned >big-owner && chown 3000000:4000000 big-owner

# Device nodes, one with a minor number above 255.
mknod character c 1 3
mknod block b 7 300
mknod fifo p
chmod 640 block

# Mode bits and attributes.
cp /bin/true setuid && chmod 4755 setuid
cp /bin/true setgid && chown 0:1500 setgid && chmod 2755 setgid
mkdir sticky && chmod 1777 sticky
cp /bin/true capable && setcap cap_net_bind_service,cap_net_raw+ep capable
echo acl >acl && setfacl -m u:1500:rw,g:42:r acl
mkdir acl-default && setfacl -d -m u:1500:rwx acl-default
echo attribute >attribute && setfattr -n user.note -v 'a=b
19 path=/etc/evil' attribute

# Base files: deleted, changed in contents or only in mode, replaced by another type, a directory deleted, one
# re-created, one emptied file by file, one renamed.
rm /etc/issue.net /bin/more
echo changed >>/etc/issue
chmod 600 /etc/host.conf
rm /etc/motd && mkdir /etc/motd && echo now-a-directory >/etc/motd/file
rm -r /etc/terminfo && echo now-a-file >/etc/terminfo
rm -r /usr/share/pixmaps
rm -r /usr/share/debianutils && mkdir /usr/share/debianutils && echo new >/usr/share/debianutils/only
rm -r /usr/share/menu/*
mv /usr/share/tabset /usr/share/tabset-moved
# Touched, and nothing else: read, or made and gone again.
cat /etc/profile >/dev/null
touch /etc/gone && rm /etc/gone
mkdir /mnt/gone && rmdir /mnt/gone

# Links.
echo hard >hard-1 && ln hard-1 hard-2 && mkdir sub && ln hard-1 sub/hard-3
ln setuid setuid-link
ln -s hard-1 relative
ln -s /no/such/target dangling
ln -s "$(printf '%0200d' 0)" long-target

# Names: long, deep, not UTF-8, with a newline, and some that look like whiteouts only in part.
touch "$(printf '%0250d' 1)"
deep=$(printf '%0100d' 2)
mkdir -p "$deep/$deep/$deep" && echo deep >"$deep/$deep/$deep/file"
touch "$(printf 'latin-\351')" "$(printf 'new\nline')" ' spaces ' wh.not 'unicode-é'

# Sizes: empty, odd, sparse with data at both ends and in the middle, and large.
: >empty
printf '%0513d' 0 >odd
truncate -s 1073741824 sparse
printf begin | dd of=sparse conv=notrunc status=none
printf middle | dd of=sparse conv=notrunc status=none bs=1 seek=536870000
printf end | dd of=sparse conv=notrunc status=none bs=1 seek=1073741821
head -c 100000000 /dev/zero | tr '\0' 'k' >large
seq 3000000 >>large
