"""USB sticks to test with."""

from kvmagent.protocol import Evidence, UsbDevice

PORT = "root0/14.0-8086:a36d/usb2"


def stick(
    serial: str = "",
    *,
    port: str = "1",
    dev_num: str = "005",
    version: str = "2.0",
    product: str = "",
    boot_critical: str | None = None,
) -> UsbDevice:
    """Return a USB stick at a port."""
    identity = [Evidence(kind="serial", value=f"0781:5581:{serial}")] if serial else []
    return UsbDevice(
        bus_num="001",
        dev_num=dev_num,
        port_path=f"1-{port}",
        id_vendor="0781",
        id_product="5581",
        i_manufacturer="",
        i_product=product,
        i_serial=serial,
        usb_version=version,
        speed_mbit=480.0,
        identity=[*identity, Evidence(kind="port", value=f"0781:5581@{PORT}/{port}")],
        boot_critical=boot_critical,
    )
