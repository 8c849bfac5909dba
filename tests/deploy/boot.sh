#!/bin/sh
# Starts systemd as process 1 of namespaces of its own, over a copy-on-write view of this machine's
# files. It runs $SCRATCH/shared/drive.sh, which sees that folder as /shared, and ends. Called by
# unshare --mount --pid --fork --uts --ipc --net --cgroup. $SITE are Python's packages.
set -eu
[ $$ = 1 ] || { echo "not process 1 of a namespace" >&2; exit 1; }
root=$SCRATCH/root
mount --make-rprivate /
mkdir -p "$SCRATCH/layer" "$root"
mount -t tmpfs tmpfs "$SCRATCH/layer"
mkdir "$SCRATCH/layer/upper" "$SCRATCH/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$SCRATCH/layer/upper,workdir=$SCRATCH/layer/work" "$root"

# What is removed in there must be gone in there alone: these are binds of the view, not of the files.
mkdir -p "$root/uniapi-test/site" "$root/uniapi-test/source/uniapi" "$root/uniapi-test/python"
mount --bind "$root$SITE" "$root/uniapi-test/site"
mount --bind "$root$CHECKOUT/uniapi" "$root/uniapi-test/source/uniapi"
mount --bind "$root$PREFIX" "$root/uniapi-test/python"
rm -rf "$root/opt/uniapi" "$root/etc/uniapi"
mkdir -p "$root/opt/uniapi/bin"
cat >"$root/opt/uniapi/bin/uniapi" <<'END'
#!/bin/sh
export PYTHONPATH=/uniapi-test/source:/uniapi-test/site LD_LIBRARY_PATH=/uniapi-test/python/lib
exec /uniapi-test/python/bin/python3 -m uniapi "$@"
END
chmod 755 "$root/opt/uniapi/bin/uniapi"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/shared"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
mount --bind "$SCRATCH/shared" "$root/shared"

# Nothing that is enabled on this machine starts there.
rm -rf "$root"/etc/systemd/system/*.wants
cat >"$root/etc/systemd/system/drive.service" <<'END'
[Service]
Type=oneshot
ExecStart=/bin/sh /shared/drive.sh
StandardOutput=file:/shared/out
StandardError=file:/shared/out
ExecStopPost=/bin/systemctl --no-block exit 0
END
cat >"$root/etc/systemd/system/drive.target" <<'END'
[Unit]
Requires=basic.target
Wants=drive.service
After=basic.target
AllowIsolate=yes
END

mkdir -p "$root/before"
cd "$root"
pivot_root . before
umount -l before
# Before anything is started: no file system of this machine is here but the folder to share.
while read -r _ place kind _; do
    case $kind:$place in
    overlay:* | tmpfs:* | proc:/proc | sysfs:/sys | cgroup2:/sys/fs/cgroup | *:/dev/* | *:/shared) ;;
    *) echo "$place is a $kind of this machine" >&2; exit 1 ;;
    esac
done </proc/mounts
: >/run/uniapi-test
: >/shared/booting
exec env -i container=scratch PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    "$SYSTEMD" --system --unit=drive.target --log-target=console --show-status=no </dev/null
