"""libvirt's C library by ctypes: the few calls that the agent makes (ADR 12).

Every call blocks and belongs off the loop. Raises LibvirtError; all else is as libvirt's reference has it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

LIBRARY = "libvirt.so.0"
KEEP_ALIVE_INTERVAL_S, KEEP_ALIVE_COUNT = 5, 3

NO_DOMAIN = 42
INVALID_OPERATION = 55
NO_SECRET = 66
DEVICE_MISSING = 99
ACTIVE_DOMAINS = 1
ACPI_POWER_BUTTON = 1
LIVE = 1
XML_WITH_SECRETS, XML_TO_MIGRATE = 1, 8
MIGRATE_LIVE, MIGRATE_BY_DAEMONS, MIGRATE_TUNNELLED = 1, 2, 4
MIGRATE_UNSAFE, MIGRATE_NOT_AFTER_IO_ERROR, MIGRATE_AUTO_CONVERGE = 1 << 9, 1 << 12, 1 << 13
LIFECYCLE_EVENT, DEVICE_REMOVED_EVENT = 0, 15
RUNNING_STATES = frozenset({1, 2, 4})
"""Running, blocked on a resource, being shut down."""
PAUSED_STATES = frozenset({3, 7})
PAUSED, BY_DISK_ERROR = 3, 5
_UUID_TEXT = 37

_lifecycle_callback = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int, c_void_p)
_removed_callback = CFUNCTYPE(None, c_void_p, c_void_p, c_char_p, c_void_p)
_close_callback = CFUNCTYPE(None, c_void_p, c_int, c_void_p)
_error_callback = CFUNCTYPE(None, c_void_p, c_void_p)

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "virGetLastErrorCode": (c_int, []),
    "virGetLastErrorMessage": (c_char_p, []),
    "virSetErrorFunc": (None, [c_void_p, _error_callback]),
    "virInitialize": (c_int, []),
    "virEventRegisterDefaultImpl": (c_int, []),
    "virEventRunDefaultImpl": (c_int, []),
    "virConnectOpen": (c_void_p, [c_char_p]),
    "virConnectRef": (c_int, [c_void_p]),
    "virConnectClose": (c_int, [c_void_p]),
    "virConnectSetKeepAlive": (c_int, [c_void_p, c_int, c_uint]),
    "virConnectRegisterCloseCallback": (c_int, [c_void_p, _close_callback, c_void_p, c_void_p]),
    "virConnectUnregisterCloseCallback": (c_int, [c_void_p, _close_callback]),
    "virConnectDomainEventRegisterAny": (c_int, [c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_void_p]),
    "virConnectDomainEventDeregisterAny": (c_int, [c_void_p, c_int]),
    "virConnectListAllDomains": (c_int, [c_void_p, POINTER(POINTER(c_void_p)), c_uint]),
    "virDomainLookupByUUIDString": (c_void_p, [c_void_p, c_char_p]),
    "virDomainGetUUIDString": (c_int, [c_void_p, POINTER(c_char)]),
    "virDomainGetXMLDesc": (c_void_p, [c_void_p, c_uint]),
    "virDomainGetState": (c_int, [c_void_p, POINTER(c_int), POINTER(c_int), c_uint]),
    "virDomainResume": (c_int, [c_void_p]),
    "virDomainCreateXML": (c_void_p, [c_void_p, c_char_p, c_uint]),
    "virDomainShutdownFlags": (c_int, [c_void_p, c_uint]),
    "virDomainDestroyFlags": (c_int, [c_void_p, c_uint]),
    "virDomainAttachDeviceFlags": (c_int, [c_void_p, c_char_p, c_uint]),
    "virDomainDetachDeviceFlags": (c_int, [c_void_p, c_char_p, c_uint]),
    "virDomainAbortJob": (c_int, [c_void_p]),
    "virDomainMigrateSetMaxDowntime": (c_int, [c_void_p, c_ulonglong, c_uint]),
    "virDomainMigrateToURI3": (c_int, [c_void_p, c_char_p, c_void_p, c_uint, c_uint]),
    "virTypedParamsAddString": (
        c_int,
        [POINTER(c_void_p), POINTER(c_int), POINTER(c_int), c_char_p, c_char_p],
    ),
    "virTypedParamsFree": (None, [c_void_p, c_int]),
    "virDomainFree": (c_int, [c_void_p]),
    "virSecretDefineXML": (c_void_p, [c_void_p, c_char_p, c_uint]),
    "virSecretLookupByUUIDString": (c_void_p, [c_void_p, c_char_p]),
    "virSecretSetValue": (c_int, [c_void_p, c_char_p, c_size_t, c_uint]),
    "virSecretUndefine": (c_int, [c_void_p]),
    "virSecretFree": (c_int, [c_void_p]),
    "virDomainGetBlockInfo": (c_int, [c_void_p, c_char_p, c_void_p, c_uint]),
}


_kept_callbacks: list[Any] = []
"""libvirt's thread may be inside a callback of a connection that has just been closed."""


class LibvirtError(Exception):
    """What libvirt says; `code` is its error number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Library:
    """The loaded library with its event loop in a thread of its own. Raises OSError when there is none."""

    _loaded: Library | None = None
    _loading = threading.Lock()

    def __init__(self) -> None:
        self.c = ctypes.CDLL(LIBRARY)
        self._libc = ctypes.CDLL(None)
        self._libc.free.argtypes = [c_void_p]
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        self._quiet = _error_callback(lambda _data, _error: None)
        self.c.virSetErrorFunc(None, self._quiet)
        self.check(self.c.virInitialize())
        self.check(self.c.virEventRegisterDefaultImpl())
        threading.Thread(target=self._run_events, name="libvirt events", daemon=True).start()

    @classmethod
    def load(cls) -> Library:
        """Return the library; it is loaded once in a process."""
        with cls._loading:
            if cls._loaded is None:
                cls._loaded = cls()
            return cls._loaded

    def _run_events(self) -> None:
        while True:
            self.c.virEventRunDefaultImpl()

    def check(self, result: int) -> int:
        """Return a result that is no failure."""
        if result < 0:
            raise self.error()
        return result

    def error(self) -> LibvirtError:
        """Return the error of this thread's last call."""
        message = self.c.virGetLastErrorMessage() or b"no reason given"
        return LibvirtError(self.c.virGetLastErrorCode(), message.decode(errors="replace"))

    def free(self, pointer: Any) -> None:
        """Give memory back that a call returned."""
        self._libc.free(pointer)


class Session:
    """A connection to a libvirt daemon. Domains are named by their uuid with dashes.

    `changed` is told the uuid of a domain whose life has taken a turn or which has lost a device, `closed`
    that the connection has broken; both are called in libvirt's thread.
    """

    def __init__(self, uri: str, changed: Callable[[str], None], closed: Callable[[], None]) -> None:
        self._library = Library.load()
        self._c = self._library.c
        self._changed = changed
        self._connection = c_void_p(self._c.virConnectOpen(uri.encode()))
        if not self._connection:
            raise self._library.error()
        self._lifecycle = _lifecycle_callback(lambda _c, domain, _event, _detail, _o: self._tell(domain))
        self._removed = _removed_callback(lambda _c, domain, _alias, _o: self._tell(domain) and None)
        self._broken = _close_callback(lambda _c, _reason, _o: closed())
        _kept_callbacks.extend((self._lifecycle, self._removed, self._broken))
        self._events: list[int] = []
        try:
            self._subscribe()
        except LibvirtError:
            self.close()
            raise

    def _subscribe(self) -> None:
        check, c, connection = self._library.check, self._c, self._connection
        check(c.virConnectSetKeepAlive(connection, KEEP_ALIVE_INTERVAL_S, KEEP_ALIVE_COUNT))
        check(c.virConnectRegisterCloseCallback(connection, self._broken, None, None))
        for kind, callback in (
            (LIFECYCLE_EVENT, self._lifecycle),
            (DEVICE_REMOVED_EVENT, self._removed),
        ):
            pointer = ctypes.cast(callback, c_void_p)
            registered = c.virConnectDomainEventRegisterAny(connection, None, kind, pointer, None, None)
            self._events.append(check(registered))

    def hold(self) -> None:
        """Keep the connection's memory until `release`, whoever closes it meanwhile."""
        self._library.check(self._c.virConnectRef(self._connection))

    def release(self) -> None:
        """End a `hold`."""
        self._c.virConnectClose(self._connection)

    def close(self) -> None:
        """End the connection."""
        for event in self._events:
            self._c.virConnectDomainEventDeregisterAny(self._connection, event)
        self._c.virConnectUnregisterCloseCallback(self._connection, self._broken)
        self._c.virConnectClose(self._connection)

    def _tell(self, domain: int) -> int:
        self._changed(self._uuid(domain))
        return 0

    def _uuid(self, domain: Any) -> str:
        text = ctypes.create_string_buffer(_UUID_TEXT)
        self._c.virDomainGetUUIDString(domain, text)
        return text.value.decode()

    @contextmanager
    def _domain(self, uuid: str) -> Iterator[Any]:
        domain = self._c.virDomainLookupByUUIDString(self._connection, uuid.encode())
        if not domain:
            raise self._library.error()
        try:
            yield domain
        finally:
            self._c.virDomainFree(domain)

    def running(self) -> list[str]:
        """Return the uuids of the domains that run."""
        array = POINTER(c_void_p)()
        found = self._c.virConnectListAllDomains(self._connection, byref(array), ACTIVE_DOMAINS)
        count = self._library.check(found)
        uuids = []
        for number in range(count):
            uuids.append(self._uuid(array[number]))
            self._c.virDomainFree(array[number])
        self._library.free(array)
        return uuids

    def state(self, uuid: str) -> int:
        """Return the number of a domain's state."""
        return self._state(uuid)[0]

    def is_stopped_by_disk(self, uuid: str) -> bool:
        """Say whether a domain waits as one of its disks could not be written."""
        return self._state(uuid) == (PAUSED, BY_DISK_ERROR)

    def _state(self, uuid: str) -> tuple[int, int]:
        state, reason = c_int(), c_int()
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainGetState(domain, byref(state), byref(reason), 0))
        return state.value, reason.value

    def resume(self, uuid: str) -> None:
        """Have a paused domain go on."""
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainResume(domain))

    def xml(self, uuid: str) -> str:
        """Return what a domain is made of now."""
        with self._domain(uuid) as domain:
            return self._xml(domain, 0)

    def _xml(self, domain: Any, flags: int) -> str:
        pointer = self._c.virDomainGetXMLDesc(domain, flags)
        if not pointer:
            raise self._library.error()
        try:
            return ctypes.string_at(pointer).decode()
        finally:
            self._library.free(pointer)

    def create(self, xml: str) -> None:
        """Start a domain that is gone when it stops."""
        domain = self._c.virDomainCreateXML(self._connection, xml.encode(), 0)
        if not domain:
            raise self._library.error()
        self._c.virDomainFree(domain)

    def press_power_button(self, uuid: str) -> None:
        """Ask a domain by ACPI to end."""
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainShutdownFlags(domain, ACPI_POWER_BUTTON))

    def destroy(self, uuid: str) -> None:
        """Take a domain's power."""
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainDestroyFlags(domain, 0))

    def attach(self, uuid: str, device_xml: str) -> None:
        """Plug a device in."""
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainAttachDeviceFlags(domain, device_xml.encode(), LIVE))

    def detach(self, uuid: str, device_xml: str) -> None:
        """Ask a domain to let go of a device."""
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainDetachDeviceFlags(domain, device_xml.encode(), LIVE))

    def written(self, uuid: str, disk: str) -> tuple[int, int]:
        """Return up to where a disk's device is written, and how many bytes the domain sees of it."""
        info = (c_ulonglong * 3)()
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainGetBlockInfo(domain, disk.encode(), byref(info), 0))
        return int(info[1]), int(info[0])

    def migrate(
        self, uuid: str, uri: str, there: Callable[[str], str], flags: int, downtime_ms: int | None
    ) -> None:
        """Move a running domain to the libvirt at `uri`; `there` returns what its XML is to be there."""
        check, c = self._library.check, self._c
        parameters, count, room = c_void_p(), c_int(), c_int()
        with self._domain(uuid) as domain:
            xml = there(self._xml(domain, XML_WITH_SECRETS | XML_TO_MIGRATE)).encode()
            add = c.virTypedParamsAddString
            check(add(byref(parameters), byref(count), byref(room), b"destination_xml", xml))
            try:
                if downtime_ms is not None:
                    check(c.virDomainMigrateSetMaxDowntime(domain, downtime_ms, 0))
                check(c.virDomainMigrateToURI3(domain, uri.encode(), parameters, count.value, flags))
            finally:
                c.virTypedParamsFree(parameters, count)

    def set_secret(self, xml: str, value: bytes) -> None:
        """Define a secret, or find it, and give it a value."""
        with self._secret(self._c.virSecretDefineXML(self._connection, xml.encode(), 0)) as secret:
            self._library.check(self._c.virSecretSetValue(secret, value, len(value), 0))

    def forget_secret(self, uuid: str) -> None:
        """Remove a secret."""
        with self._secret(self._c.virSecretLookupByUUIDString(self._connection, uuid.encode())) as secret:
            self._library.check(self._c.virSecretUndefine(secret))

    @contextmanager
    def _secret(self, secret: Any) -> Iterator[Any]:
        if not secret:
            raise self._library.error()
        try:
            yield secret
        finally:
            self._c.virSecretFree(secret)

    def abort_migration(self, uuid: str) -> None:
        """Have a domain's migration end, which keeps the domain here."""
        with self._domain(uuid) as domain:
            self._library.check(self._c.virDomainAbortJob(domain))
