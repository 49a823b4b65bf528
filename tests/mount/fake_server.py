"""A vhost-user virtio-fs server that says wrong things, for tests of virtiofs-mount. Standard library only.

It offers no features but VIRTIO_F_VERSION_1: rings without indirect descriptors or event indexes, which start enabled.
Slow, and meant to be: a thread, one request at a time.
"""

import array
import mmap
import os
import select
import socket
import struct
import threading

LOOKUP, FORGET, GETATTR, STATFS, RELEASEDIR, INIT, OPENDIR, READDIR = 1, 2, 3, 17, 29, 26, 27, 28
DESTROY, BATCH_FORGET, READDIRPLUS = 38, 42, 44
IN_HEADER = struct.Struct("<IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, extlen, padding
OUT_HEADER = struct.Struct("<IiQ")  # len, error, unique
NEXT, WRITE = 1, 2  # descriptor flags


def out(unique, body=b"", error=0):
    """A right reply."""
    return OUT_HEADER.pack(16 + len(body), error, unique) + body


def init_body():
    return struct.pack("<IIIIHHIIHHI28x", 7, 45, 1 << 17, 0, 12, 9, 1 << 17, 1, 0, 0, 0)


def attr_body(mode=0o40755):
    return struct.pack("<QII", 0, 0, 0) + struct.pack("<QQQQQQIIIIIIIIII", 1, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 2, 0, 0, 0,
                                                      4096, 0)


class FakeServer(threading.Thread):
    """Serves one front-end at `path`. `answer(opcode, unique, request)` gives the bytes to write into the chain, and may
    give a pair of them and the length to claim in the used ring; None keeps the chain."""

    def __init__(self, path, answer):
        super().__init__(daemon=True)
        self.answer = answer
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.regions = []  # (user address, size, mmap)
        self.rings = {}
        self.requests = []  # (opcode, queue) as they came
        self.connection = None
        self.failure = None
        self.start()

    def run(self):
        try:
            self.connection, _ = self.listener.accept()
            while self.turn():
                pass
        except OSError as error:
            self.failure = error

    def hang_up(self):
        """What a crash looks like from the other side."""
        self.connection.shutdown(socket.SHUT_RDWR)

    # -- vhost-user --

    def turn(self):
        kicks = {ring["kick"]: index for index, ring in self.rings.items() if "kick" in ring}
        for fd in select.select([self.connection, *kicks], [], [])[0]:
            if fd is self.connection:
                if not self.message():
                    return False
            else:
                os.read(fd, 8)
                self.serve(kicks[fd])
        return True

    def message(self):
        header, control, _, _ = self.connection.recvmsg(12, socket.CMSG_SPACE(4 * 8))
        if len(header) < 12:
            return False
        request, _, size = struct.unpack("<III", header)
        payload = self.connection.recv(size, socket.MSG_WAITALL) if size else b""
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:len(data) // 4 * 4])
        self.handle(request, payload, list(fds))
        return True

    def handle(self, request, payload, fds):
        index = struct.unpack_from("<I", payload)[0] & 0xff if payload else 0
        ring = self.rings.setdefault(index, {"used": 0, "avail": 0}) if 8 <= request <= 13 else None
        if request == 1:  # GET_FEATURES
            self.reply(request, struct.pack("<Q", 1 << 32))
        elif request == 5:  # SET_MEM_TABLE
            count = struct.unpack_from("<I", payload)[0]
            for number in range(count):
                _, size, user, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * number)
                self.regions.append((user, size, mmap.mmap(fds[number], size, offset=offset)))
        elif request == 8:  # SET_VRING_NUM
            ring["size"] = struct.unpack_from("<II", payload)[1]
        elif request == 9:  # SET_VRING_ADDR
            ring["desc"], ring["used_at"], ring["avail_at"] = struct.unpack_from("<8xQQQ", payload)
        elif request == 11:  # GET_VRING_BASE
            ring.pop("kick", None)
            self.reply(request, struct.pack("<II", index, ring["avail"]))
        elif request == 12:  # SET_VRING_KICK
            ring["kick"] = fds[0]
        elif request == 13:  # SET_VRING_CALL
            ring["call"] = fds[0]

    def reply(self, request, payload):
        self.connection.sendall(struct.pack("<III", request, 5, len(payload)) + payload)

    # -- Rings --

    def memory(self, address):
        """Where a user address of the front-end lies: a mapping and an offset in it."""
        for user, size, mapping in self.regions:
            if user <= address < user + size:
                return mapping, address - user
        raise OSError(f"address {address:#x} is in no region")

    def guest(self, address):
        """The same for a guest address; there is one region, and its guest addresses begin at 0x40000000."""
        return self.regions[0][2], address - 0x40000000

    def serve(self, index):
        ring = self.rings[index]
        mapping, at = self.memory(ring["avail_at"])
        while ring["avail"] != struct.unpack_from("<H", mapping, at + 2)[0]:
            head = struct.unpack_from("<H", mapping, at + 4 + 2 * (ring["avail"] % ring["size"]))[0]
            ring["avail"] = (ring["avail"] + 1) & 0xffff
            self.serve_chain(index, ring, head)

    def serve_chain(self, index, ring, head):
        request, writable = b"", []
        descriptor = head
        while True:
            mapping, at = self.memory(ring["desc"])
            address, length, flags, following = struct.unpack_from("<QIHH", mapping, at + 16 * descriptor)
            memory, offset = self.guest(address)
            if flags & WRITE:
                writable.append((memory, offset, length))
            else:
                request += memory[offset:offset + length]
            if not flags & NEXT:
                break
            descriptor = following
        opcode, unique = IN_HEADER.unpack_from(request)[1:3]
        self.requests.append((opcode, index))
        answer = self.answer(opcode, unique, request)
        if answer is None:
            return
        data, used = answer if isinstance(answer, tuple) else (answer, len(answer))
        for memory, offset, length in writable:
            memory[offset:offset + min(length, len(data))] = data[:length]
            data = data[length:]
        self.give_back(ring, head, used)

    def give_back(self, ring, head, used):
        mapping, at = self.memory(ring["used_at"])
        struct.pack_into("<II", mapping, at + 4 + 8 * (ring["used"] % ring["size"]), head, used)
        ring["used"] = (ring["used"] + 1) & 0xffff
        struct.pack_into("<H", mapping, at + 2, ring["used"])
        os.write(ring["call"], struct.pack("<Q", 1))
