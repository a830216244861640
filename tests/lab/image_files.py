"""What the guests' images are made of: package lists, configuration, the init of the initial RAM disk."""

from __future__ import annotations

from pathlib import Path

ROOT_PASSWORD = "lab-root-password"  # of every guest, by SSH and on the console
REPOSITORY_PORT = 8099  # of the package mirror in the lab, which the guests' apt is pointed to
IQN_DOMAIN = "iqn.2026-01.org.lab"
# What makes an emulated machine quick. Without norandmaps each process has its libraries at other addresses,
# and QEMU translates them anew: a program that does nothing takes six times as long
KERNEL_ARGUMENTS = (
    "console=ttyS0 net.ifnames=0 mitigations=off nokaslr norandmaps init_on_alloc=0 no5lvl apparmor=0 "
    "selinux=0 audit=0 nowatchdog cryptomgr.notests random.trust_cpu=on clocksource=hpet no_timer_check "
    "rcupdate.rcu_expedited=1 8250.nr_uarts=1"
)

SUITE = "bookworm"
DISK_SIZE = 8 << 30  # bytes; sparse
PARTITION_START = 1 << 20  # bytes; the boot loader lies before it
ROOT_DEVICE = "/dev/vda1"


def packages(name: str) -> list[str]:
    """Return the packages that NAME.packages lists."""
    lines = (Path(__file__).parent / f"{name}.packages").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


# Of the full image: begun when a test wants them, so that booting is quick
DISABLED = (
    "libvirtd.service",
    "libvirt-guests.service",
    "firewalld.service",
    "postgresql.service",
    "nfs-server.service",
    "rpcbind.service",
    "rpcbind.socket",
    "rtslib-fb-targetctl.service",
    "sanlock.service",
    "wdmd.service",
    "lvmlockd.service",
    "lvmlocks.service",
    "multipathd.service",
    "multipathd.socket",
    "open-iscsi.service",
    "ceph-crash.service",
    "rbdmap.service",
    "nvmefc-boot-connections.service",
    "nvmf-autoconnect.service",
)
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "logrotate.timer",
    "e2scrub_reap.service",
    "lvm2-monitor.service",
    "blk-availability.service",
    "systemd-pstore.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "nfs-blkmap.service",
    "machines.target",
)

BOOT_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "virtio_net")
NESTED_MODULES = ("e1000e", "usb_storage", "sd_mod", "xhci_pci", "nvme")
GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "minicmd", "search_fs_uuid", "serial")

BEFORE_PACKAGES = {
    "etc/dpkg/dpkg.cfg.d/lab": (
        "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n"
        "path-exclude=/usr/share/locale/*\npath-exclude=/usr/share/info/*\n"
    ),
    "etc/apt/apt.conf.d/99lab": 'APT::Install-Recommends "0";\nAcquire::Languages "none";\n',
    # The kernel comes with an initial RAM disk of the lab's own, see INIT
    "etc/kernel-img.conf": "do_initrd = no\ndo_symlinks = yes\n",
    "etc/initramfs-tools/update-initramfs.conf": "update_initramfs=no\n",
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}
AFTER_PACKAGES = {
    "etc/machine-id": "",
    "etc/fstab": f"{ROOT_DEVICE} / ext4 noatime 0 1\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n10.99.0.1 mn\n",
    "etc/resolv.conf": "",
    "etc/ssh/sshd_config.d/lab.conf": (
        "PermitRootLogin yes\nPasswordAuthentication yes\nUsePAM no\nUseDNS no\nGSSAPIAuthentication no\n"
        "MaxStartups 100\n"
    ),
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
    # On a machine that has other work, too, what takes seconds elsewhere takes minutes here
    "etc/systemd/system.conf.d/lab.conf": (
        "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n"
    ),
    "etc/apt/sources.list": f"deb [trusted=yes] http://10.99.0.1:{REPOSITORY_PORT}/ ./\n",
    "etc/default/grub": (
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_RECORDFAIL_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\n"
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
        f'GRUB_CMDLINE_LINUX="{KERNEL_ARGUMENTS}"\n'
        'GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND="serial --speed=115200 --unit=0"\n'
        "GRUB_DISABLE_OS_PROBER=true\nGRUB_DISABLE_RECOVERY=true\nGRUB_DISABLE_SUBMENU=y\n"
    ),
}
MULTIPATH = """\
defaults {
  user_friendly_names no
  find_multipaths no
  polling_interval 3
}
blacklist {
  devnode "^(vd|nvme|loop)"
  device {
    vendor "QEMU"
    product ".*"
  }
}
"""


def grub_configuration(version: str) -> str:
    """Return the first grub.cfg of an image with the kernel `version`; update-grub replaces it."""
    return f"""\
serial --speed=115200 --unit=0
terminal_input serial
terminal_output serial
set timeout=0
menuentry 'Debian GNU/Linux' {{
  linux /boot/vmlinuz-{version} root={ROOT_DEVICE} rw {KERNEL_ARGUMENTS} quiet
  initrd /boot/initrd.img-{version}
}}
"""


# Who a guest is comes from its SMBIOS system table (see machine.py), so one image and one kernel command line
# serve all. serial: name; sku: addresses of eth0_eth1 with prefix; uuid: machine-id.
INIT = f"""\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
while read -r m; do $b insmod "/m/$m"; done </mods
$b mount -t ext4 -o noatime {ROOT_DEVICE} /new || exec $b sh
$b ip link set lo up
dmi=/sys/class/dmi/id
if [ "$($b cat $dmi/product_name)" = 'Lab guest' ]; then
  name=$($b cat $dmi/product_serial)
  echo "$name" >/new/etc/hostname; echo "$name" >/proc/sys/kernel/hostname
  $b tr -d - <$dmi/product_uuid | $b tr A-F a-f >/new/etc/machine-id
  [ -d /new/etc/iscsi ] && echo "InitiatorName={IQN_DOMAIN}:$name" >/new/etc/iscsi/initiatorname.iscsi
  n=0
  for address in $($b tr _ ' ' <$dmi/product_sku); do
    $b ip link set eth$n up; $b ip addr add "$address" brd + dev eth$n; n=$((n+1))
  done
fi
$b umount /proc; $b umount /sys; $b mount --move /dev /new/dev
exec $b switch_root /new /lib/systemd/systemd
"""

# The guest in the guest: says on its serial line which devices it sees, again when they change
NESTED_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
echo NESTED UP
while read -r m; do $b insmod "/m/$m"; done </mods
o=
while :; do
  n="PCI:$(for d in /sys/bus/pci/devices/*; do echo -n "$($b cat $d/vendor):$($b cat $d/device) "; done)"
  n="$n USB:$(for d in /sys/bus/usb/devices/*/idVendor; do
    echo -n "$($b cat $d):$($b cat ${d%idVendor}idProduct) "; done)"
  n="$n BLK:$($b ls /sys/block | $b tr '\\n' ' ')"
  for d in /dev/sd[a-z]; do [ -b $d ] && n="$n $d=$($b head -c 8 $d | $b tr -dc 'A-Z0-9')"; done
  [ "$n" != "$o" ] && { echo "NESTED $n"; o=$n; }
  $b sleep 1
done
"""
