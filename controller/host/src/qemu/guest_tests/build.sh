# Makes a kernel and an initial RAM disk that boot to a guest agent in a few seconds, from Debian's own packages.
# Argument: directory for the results (vmlinuz, initrd). Run once; an interrupted run starts afresh.
set -eu
out=$1
[ -e "$out/vmlinuz" ] && [ -e "$out/initrd" ] && exit 0
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
apt-get -qq -o APT::Sandbox::User=root download "$kernel" qemu-guest-agent busybox-static util-linux \
	libc6 libglib2.0-0 libnuma1 libudev1 liburing2 libpcre2-8-0
for package in *.deb; do dpkg-deb -x "$package" x; done
lib=lib/x86_64-linux-gnu
mkdir -p rd/bin rd/sbin rd/dev rd/proc rd/sys rd/run rd/tmp rd/var/run rd/modules rd/lib64 rd/$lib
# Busybox has all but one of what named commands need.
cp x/bin/busybox x/usr/sbin/qemu-ga x/usr/bin/flock rd/bin/
cp -L x/lib64/ld-linux-x86-64.so.2 rd/lib64/
for name in libc libm libglib-2.0 libgmodule-2.0 libnuma libpcre2-8 libudev liburing; do
	cp -L "$(ls x/$lib/$name.so.* x/usr/$lib/$name.so.* 2> /dev/null | head -n 1)" rd/$lib/
done
# The agent's libraries are found under the names it was linked with.
for file in rd/$lib/*.so.*; do
	real=${file##*/}
	short=$(printf %s "$real" | sed 's/\(\.so\.[0-9]*\).*/\1/')
	[ "$real" = "$short" ] || ln -s "$real" "rd/$lib/$short"
done
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console virtio_blk; do
	cp "$(find x/lib/modules -name "$module.ko")" rd/modules/
done
cat > rd/sbin/shutdown <<'END'
#!/bin/sh
[ "$1" = -r ] && exec reboot -f
exec poweroff -f
END
cat > rd/init <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
# In the order of their dependencies.
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console virtio_blk; do
	insmod /modules/$module.ko
done
for port in /sys/class/virtio-ports/*; do
	mkdir -p /dev/virtio-ports; ln -s /dev/${port##*/} "/dev/virtio-ports/$(cat $port/name)"
done
echo "the guest is up"
qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run &
while :; do wait; sleep 1000; done
END
chmod 755 rd/init rd/sbin/shutdown
(cd rd && find . | ../x/bin/busybox cpio -o -H newc 2> /dev/null | gzip -1) > initrd
cp x/boot/vmlinuz-* vmlinuz
mv initrd vmlinuz "$out"
