"""A VM that moves to another host opens its images there with the key that this host has."""

from xml.etree import ElementTree as ET

from kvmagent.vms.domain_xml import dashed, moved

XML = """<domain><devices>
<disk><source protocol="rbd" name="p/v">
<auth username="before"><secret type="ceph" uuid="{uuid}"/></auth></source></disk>
<disk><source protocol="rbd" name="q/v">
<auth username="kept"><secret type="ceph" uuid="other"/></auth></source></disk>
<disk><source file="/v"/></disk>
</devices></domain>"""


def test_a_vm_moves_on_to_the_new_key_of_its_storage() -> None:
    storage = "a" * 32
    there = moved(XML.format(uuid=dashed(storage)), "192.0.2.2", {storage: "after"})
    users = [auth.get("username") for auth in ET.fromstring(there).iterfind("devices/disk/source/auth")]
    assert users == ["after", "kept"]
