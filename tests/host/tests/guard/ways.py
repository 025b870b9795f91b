"""Ways to a server. Each connects, or tries to, and sends the mark that it is given.

usage: ways.py NAME PORT MARK
The server listens at PORT of 127.0.0.1 and ::1, by TCP and UDP. Whether a way leads there is for the
server to say: what a way itself thinks of it does not count. Exit code 77: this kernel lacks it.
"""

import asyncio
import ctypes
import errno
import mmap
import os
import socket
import struct
import subprocess
import sys
import threading

LACKING = 77
libc = ctypes.CDLL(None, use_errno=True)
name, port, mark = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
WAYS = {}


def way(function):
    WAYS[function.__name__] = function
    return function


def tcp(family=socket.AF_INET, protocol=0):
    s = socket.socket(family, socket.SOCK_STREAM, protocol)
    s.settimeout(2)
    return s


def speak(s, address):
    s.connect(address)
    s.sendall(mark)
    s.close()


def sockaddr(port):
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton("127.0.0.1") + bytes(8)


@way
def plain():
    speak(tcp(), ("127.0.0.1", port))


@way
def non_blocking():
    s = tcp()
    s.setblocking(False)
    assert s.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
    import select
    select.select([], [s], [], 2)
    s.send(mark)


@way
def zero():
    speak(tcp(), ("0.0.0.0", port))


@way
def mapped():
    speak(tcp(socket.AF_INET6), ("::ffff:127.0.0.1", port))


@way
def mapped_zero():
    speak(tcp(socket.AF_INET6), ("::ffff:0.0.0.0", port))


@way
def six():
    speak(tcp(socket.AF_INET6), ("::1", port))


@way
def six_zero():
    speak(tcp(socket.AF_INET6), ("::", port))


@way
def six_bound_to_mapped():
    s = tcp(socket.AF_INET6)
    s.bind(("::ffff:127.0.0.1", 0))
    speak(s, ("::", port))


@way
def after_unspec():
    listener = tcp()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    s = socket.socket()
    s.connect(listener.getsockname())
    assert libc.connect(s.fileno(), bytes(16), 16) == 0, ctypes.get_errno()
    s.settimeout(2)
    speak(s, ("127.0.0.1", port))


@way
def after_a_failure():
    s = socket.socket()
    closed = tcp()
    closed.bind(("127.0.0.1", 0))
    assert s.connect_ex(closed.getsockname()) == errno.ECONNREFUSED
    speak(s, ("127.0.0.1", port))


@way
def mptcp():
    speak(tcp(protocol=262), ("127.0.0.1", port))


@way
def mptcp_six():
    speak(tcp(socket.AF_INET6, 262), ("::1", port))


@way
def fast_open_sendto():
    # Sockets with a time limit do not block, and then send nothing but a request for a cookie.
    socket.socket().sendto(mark, socket.MSG_FASTOPEN, ("127.0.0.1", port))


@way
def fast_open_sendmsg():
    socket.socket().sendmsg([mark], [], socket.MSG_FASTOPEN, ("127.0.0.1", port))


@way
def fast_open_six():
    socket.socket(socket.AF_INET6).sendto(mark, socket.MSG_FASTOPEN, ("::1", port))


@way
def fast_open_connect():
    s = tcp()
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    speak(s, ("127.0.0.1", port))


@way
def fast_open_mptcp():
    socket.socket(proto=262).sendto(mark, socket.MSG_FASTOPEN, ("127.0.0.1", port))


def ring(flags, idle):
    """A CONNECT and a SEND by io_uring(7), by the bare system calls."""
    s = socket.socket()
    params = bytearray(120)
    struct.pack_into("=IIIII", params, 0, 0, 0, flags, 0, idle)
    raw = (ctypes.c_char * 120).from_buffer(params)
    fd = libc.syscall(425, 8, raw)
    if fd < 0:
        sys.exit(LACKING)
    head = struct.unpack_from("=10I", params, 40)
    sq_tail, sq_mask, sq_array = head[1], head[2], head[6]
    rings = mmap.mmap(fd, 8192, offset=0)
    entries = mmap.mmap(fd, 8192, offset=0x10000000)
    address = ctypes.create_string_buffer(sockaddr(port), 16)
    text = ctypes.create_string_buffer(mark, len(mark))
    IOSQE_IO_LINK = 4
    connect = struct.pack("=BBHiQQIIQ", 16, IOSQE_IO_LINK, 0, s.fileno(), 16, ctypes.addressof(address), 0, 0, 1)
    send = struct.pack("=BBHiQQIIQ", 26, 0, 0, s.fileno(), 0, ctypes.addressof(text), len(mark), 0, 2)
    mask = struct.unpack_from("=I", rings, sq_mask)[0]
    for i, entry in enumerate((connect, send)):
        entries[64 * i:64 * i + len(entry)] = entry
        struct.pack_into("=I", rings, sq_array + 4 * (i & mask), i)
    struct.pack_into("=I", rings, sq_tail, 2)
    # IORING_ENTER_GETEVENTS, and IORING_ENTER_SQ_WAKEUP where a thread of the kernel polls.
    libc.syscall(426, fd, 2, 2, 1 | (2 if flags else 0), None, 0)
    import time
    time.sleep(0.3)


@way
def io_uring():
    ring(0, 0)


@way
def io_uring_polled():
    ring(2, 2000)


@way
def udp_connected():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    speak(s, ("127.0.0.1", port))


@way
def udp_sent():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(mark, ("127.0.0.1", port))


@way
def udp_six():
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(mark, ("::1", port))


@way
def udp_mapped():
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(mark, ("::ffff:127.0.0.1", port))


@way
def udp_zero():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(mark, ("0.0.0.0", port))


@way
def udp_connected_elsewhere():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("127.0.0.1", 9))
    s.sendto(mark, ("127.0.0.1", port))


@way
def forked():
    if os.fork() == 0:
        plain()
        os._exit(0)
    os.wait()


@way
def forked_twice():
    ends, begins = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            try:
                plain()
            finally:
                os.write(begins, b"x")
        os._exit(0)
    os.wait()
    os.read(ends, 1)


@way
def socket_over_fork():
    s = tcp()
    if os.fork() == 0:
        speak(s, ("127.0.0.1", port))
        os._exit(0)
    os.wait()


@way
def in_a_thread():
    t = threading.Thread(target=plain)
    t.start()
    t.join()


@way
def duplicated():
    s = socket.socket()
    speak(socket.socket(fileno=os.dup(s.fileno())), ("127.0.0.1", port))


@way
def executed():
    subprocess.run([sys.executable, __file__, "plain", str(port), mark.decode()], check=True)


@way
def socket_over_exec():
    s = socket.socket()
    os.set_inheritable(s.fileno(), True)
    code = f"import socket; s = socket.socket(fileno={s.fileno()}); s.settimeout(2); s.connect(('127.0.0.1', {port})); s.sendall({mark!r})"
    os.execv(sys.executable, [sys.executable, "-c", code])


@way
def socket_passed():
    a, b = socket.socketpair()
    b.settimeout(3)
    s = socket.socket()
    if os.fork() == 0:
        _, fds, _, _ = socket.recv_fds(b, 1, 1)
        speak(socket.socket(fileno=fds[0]), ("127.0.0.1", port))
        os._exit(0)
    socket.send_fds(a, [b"x"], [s.fileno()])
    os.wait()


@way
def connected_and_passed():
    a, b = socket.socketpair()
    if os.fork() == 0:
        s = tcp()
        s.connect(("127.0.0.1", port))
        socket.send_fds(a, [b"x"], [s.fileno()])
        os._exit(0)
    a.close()
    b.settimeout(3)
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    os.write(fds[0], mark)
    os.wait()


@way
def bound_first():
    s = tcp()
    s.bind(("127.0.0.9", 0))
    speak(s, ("127.0.0.1", port))


@way
def bound_freely():
    s = tcp()
    s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
    s.bind(("127.0.0.1", 0))
    speak(s, ("127.0.0.1", port))


@way
def reusing_a_port():
    s = tcp()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 0))
    speak(s, ("127.0.0.1", port))


@way
def user_namespace():
    if libc.unshare(0x10000000) != 0:  # CLONE_NEWUSER
        sys.exit(LACKING)
    plain()


@way
def socket_from_before_a_network_namespace():
    s = tcp()
    if libc.unshare(0x10000000 | 0x40000000) != 0:  # CLONE_NEWUSER, CLONE_NEWNET
        sys.exit(LACKING)
    speak(s, ("127.0.0.1", port))


@way
def out_of_a_network_namespace_by_a_child():
    """A child stays behind, makes the socket there and hands it in."""
    a, b = socket.socketpair()
    if os.fork() == 0:
        s = tcp()
        socket.send_fds(a, [b"x"], [s.fileno()])
        os._exit(0)
    if libc.unshare(0x10000000 | 0x40000000) != 0:
        sys.exit(LACKING)
    b.settimeout(3)
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    s = socket.socket(fileno=fds[0])
    s.settimeout(2)
    speak(s, ("127.0.0.1", port))
    os.wait()


@way
def spliced():
    s = tcp()
    s.connect(("127.0.0.1", port))
    read, write = os.pipe()
    os.write(write, mark)
    os.splice(read, s.fileno(), len(mark))


@way
def file_sent():
    import tempfile
    s = tcp()
    s.connect(("127.0.0.1", port))
    with tempfile.TemporaryFile() as file:
        file.write(mark)
        file.flush()
        os.sendfile(s.fileno(), file.fileno(), 0, len(mark))


@way
def spliced_by_a_child():
    s = tcp()
    s.connect(("127.0.0.1", port))
    if os.fork() == 0:
        read, write = os.pipe()
        os.write(write, mark)
        os.splice(read, s.fileno(), len(mark))
        os._exit(0)
    os.wait()


@way
def smc():
    s = socket.socket(43, socket.SOCK_STREAM)
    s.settimeout(None)
    if libc.connect(s.fileno(), sockaddr(port), 16) != 0:
        raise OSError(ctypes.get_errno(), "connect")
    s.send(mark)


@way
def smc_by_its_protocol():
    speak(tcp(protocol=256), ("127.0.0.1", port))


@way
def vforked():
    command = f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf %s {mark.decode()} >&3"
    os.posix_spawn("/bin/bash", ["bash", "-c", command], os.environ)
    os.wait()


@way
def bash_dev_tcp():
    subprocess.run(["bash", "-c", f"printf %s {mark.decode()} > /dev/tcp/127.0.0.1/{port}"], timeout=5)


@way
def bash_dev_udp():
    subprocess.run(["bash", "-c", f"printf %s {mark.decode()} > /dev/udp/127.0.0.1/{port}"], timeout=5)


@way
def curl_telnet():
    subprocess.run(["curl", "-s", "-m", "2", f"telnet://127.0.0.1:{port}"], input=mark, timeout=5)


@way
def curl_http():
    subprocess.run(["curl", "-s", "-m", "2", f"http://127.0.0.1:{port}/{mark.decode()}"], timeout=5)


@way
def with_asyncio():
    async def go():
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(mark)
        await writer.drain()
    asyncio.run(asyncio.wait_for(go(), 3))


def crafted():
    """An IPv4 packet with the mark as a UDP datagram for the server."""
    udp = struct.pack("!HHHH", 40000, port, 8 + len(mark), 0) + mark
    here = socket.inet_aton("127.0.0.1")
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0, here, here)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return head + udp


@way
def raw():
    """Root's, in scope by its cgroup."""
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    s.sendto(crafted(), ("127.0.0.1", 0))


@way
def raw_six():
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 17)
    s.setsockopt(socket.IPPROTO_IPV6, 7, 6)  # IPV6_CHECKSUM
    s.sendto(struct.pack("!HHHH", 40000, port, 8 + len(mark), 0) + mark, ("::1", 0))


@way
def raw_six_with_options():
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 17)
    s.setsockopt(socket.IPPROTO_IPV6, 7, 6)
    s.setsockopt(socket.IPPROTO_IPV6, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))  # IPV6_DSTOPTS
    s.sendto(struct.pack("!HHHH", 40000, port, 8 + len(mark), 0) + mark, ("::1", 0))


@way
def raw_in_fragments():
    whole = crafted()
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    body, cut = whole[20:], 8
    for at, part in ((0, body[:cut]), (cut, body[cut:])):
        flags = (at // 8) | (0x2000 if at == 0 else 0)
        head = bytearray(whole[:20])
        struct.pack_into("!H", head, 2, 20 + len(part))
        struct.pack_into("!H", head, 6, flags)
        struct.pack_into("!H", head, 10, 0)
        s.sendto(bytes(head) + part, ("127.0.0.1", 0))


@way
def packet():
    """An IPv6 packet on the loopback device, below all that the kernel does for sockets."""
    length, here = 8 + len(mark), socket.inet_pton(socket.AF_INET6, "::1")
    udp = struct.pack("!HHHH", 40000, port, length, 0) + mark
    summed = here + here + struct.pack("!II", length, 17) + udp + bytes(length % 2)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    total = (total & 0xFFFF) + (total >> 16)
    udp = udp[:6] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + udp[8:]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    s.sendto(struct.pack("!IHBB", 6 << 28, length, 17, 64) + here + here + udp, ("lo", 0x86DD))


try:
    WAYS[name]()
except OSError as error:
    if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        sys.exit(LACKING)
    raise
