//! TCP connections that are there, from the kernel's table of sockets (`sock_diag(7)`), and ending
//! them (`SOCK_DESTROY`). Only those of this network namespace are seen.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::KernelError;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

// include/uapi/linux/sock_diag.h and netlink.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;

/// States in which bytes may flow: not closed, listening or waiting for the port
/// (`include/net/tcp_states.h`).
const STATES: u32 = !(1 << 6 | 1 << 7 | 1 << 10) & 0xfff;

const LISTENING: u32 = 1 << 10;

/// `struct nlmsghdr`, `struct inet_diag_sockid`, `struct inet_diag_msg`, in bytes.
const HEADER: usize = 16;
const ID: usize = 48;
/// Where the cookie is in an id: two words, the low one first.
const COOKIE: usize = 40;
const MESSAGE: usize = 72;

/// A TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// User id of the socket.
    pub uid: u32,
    /// The socket's inode, by which `/proc/PID/fd` names it; 0 where no descriptor has it.
    pub inode: u32,
    family: u8,
    id: [u8; ID],
}

/// All that are there.
///
/// # Errors
/// [`KernelError::System`] where the kernel does not tell.
pub fn connections() -> Result<Vec<Connection>, KernelError> {
    tell(STATES)
}

/// Ports at which somebody takes connections.
///
/// # Errors
/// As [`connections`].
pub fn listening() -> Result<BTreeSet<u16>, KernelError> {
    Ok(tell(LISTENING)?.iter().map(|listener| listener.local.port()).collect())
}

fn tell(states: u32) -> Result<Vec<Connection>, KernelError> {
    let asking = netlink().map_err(failed)?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, states, &[0; ID]);
        send(asking.as_raw_fd(), &request, MsgFlags::empty()).map_err(|e| failed(e.into()))?;
        dump(&asking, family, &mut found).map_err(failed)?;
    }
    Ok(found)
}

/// Ends a connection: both sides see a reset.
///
/// # Errors
/// What the kernel says; `NotFound` where it has ended meanwhile.
pub fn destroy(connection: &Connection) -> io::Result<()> {
    let asking = netlink()?;
    let Connection { family, id, .. } = connection;
    let request = request(SOCK_DESTROY, NLM_F_ACK, *family, STATES, id);
    send(asking.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = [0; 1024];
    let length = recv(asking.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    error(buffer.get(HEADER..length).unwrap_or_default())
}

/// The cookie of the TCP socket that is connected from `local` to `remote`: the kernel's own name of
/// a socket, which no other has until reboot. `None` where there is no such socket.
///
/// # Errors
/// Where the kernel does not tell.
pub fn cookie(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u64>> {
    let (local_ip, remote_ip) = (local.ip().to_canonical(), remote.ip().to_canonical());
    let family = if local_ip.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut id = [0; ID];
    id[0..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&remote.port().to_be_bytes());
    for (at, ip) in [(4, local_ip), (20, remote_ip)] {
        match ip {
            IpAddr::V4(ip) => id[at..at + 4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => id[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    // `INET_DIAG_NOCOOKIE`: whichever it has.
    id[COOKIE..].fill(0xff);
    let asking = netlink()?;
    let request = request(SOCK_DIAG_BY_FAMILY, 0, family, STATES, &id);
    send(asking.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = [0; 4096];
    let length = recv(asking.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match message(buffer.get(..length).unwrap_or_default()) {
        Some((SOCK_DIAG_BY_FAMILY, found, _)) => {
            let found = connection(family, found).ok_or(io::ErrorKind::InvalidData)?;
            // A socket that listens answers for whom it may still hear of.
            if found.local.port() != local.port() || found.remote.port() != remote.port() {
                return Ok(None);
            }
            Ok(found.cookie())
        }
        Some((NLMSG_ERROR, failed, _)) => match error(failed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(None),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Connection {
    /// See [`cookie`].
    fn cookie(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.id.get(COOKIE..)?.first_chunk()?))
    }
}

fn failed(source: io::Error) -> KernelError {
    KernelError::System { call: "sock_diag", source }
}

fn netlink() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?)
}

/// A `struct inet_diag_req_v2` with its header.
fn request(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let length = HEADER + 8 + ID;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(0).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes
}

fn dump(asking: &OwnedFd, family: u8, found: &mut Vec<Connection>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(asking.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, message, next)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return error(message),
                SOCK_DIAG_BY_FAMILY => found.extend(connection(family, message)),
                _ => {}
            }
            rest = next;
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The first message: its kind, what is in it, and what comes after it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let message = bytes.get(HEADER..length)?;
    Some((kind, message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// A `struct nlmsgerr`; 0 is an acknowledgement.
fn error(message: &[u8]) -> io::Result<()> {
    let code = message.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn connection(family: u8, message: &[u8]) -> Option<Connection> {
    let message = message.first_chunk::<MESSAGE>()?;
    let id: [u8; ID] = *message.get(4..)?.first_chunk()?;
    let word = |at: usize| Some(u32::from_ne_bytes(*message.get(at..)?.first_chunk()?));
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(*id.get(port..)?.first_chunk()?);
        let bytes: [u8; 16] = *id.get(address..)?.first_chunk()?;
        let address: IpAddr = if family == AF_INET {
            Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()
        } else {
            Ipv6Addr::from(bytes).to_canonical()
        };
        Some(SocketAddr::new(address, port))
    };
    Some(Connection {
        local: end(0, 4)?,
        remote: end(2, 20)?,
        uid: word(64)?,
        inode: word(68)?,
        family,
        id,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_connection_is_found_and_can_be_ended() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let server = TcpListener::bind(place).expect("bound");
            let address = server.local_addr().expect("an address");
            let mut client = TcpStream::connect(address).expect("connected");
            let _accepted = server.accept().expect("accepted");
            let all = connections().expect("told");
            let found = all.iter().find(|found| found.remote == address).expect("found");
            let ports = listening().expect("told");
            assert!(ports.contains(&address.port()) && !ports.contains(&found.local.port()));
            assert_eq!(found.local, client.local_addr().expect("an address"));
            assert_eq!(found.uid, nix::unistd::getuid().as_raw());
            assert_ne!(found.inode, 0);
            if !nix::unistd::geteuid().is_root() {
                continue;
            }
            destroy(found).expect("ended");
            let error = client.read(&mut [0]).expect_err("it was ended");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            assert!(destroy(found).is_err(), "it is gone");
        }
    }

    #[test]
    fn a_sockets_cookie_is_its_own() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let server = TcpListener::bind(place).expect("bound");
            let to = server.local_addr().expect("an address");
            let client = TcpStream::connect(to).expect("connected");
            let from = client.local_addr().expect("an address");
            let mut own = 0_u64;
            let mut length = 8;
            // SAFETY: the option writes at most `length` bytes, and `own` has as many.
            let result = unsafe {
                nix::libc::getsockopt(
                    client.as_raw_fd(),
                    nix::libc::SOL_SOCKET,
                    nix::libc::SO_COOKIE,
                    (&raw mut own).cast(),
                    &raw mut length,
                )
            };
            assert_eq!(result, 0);
            assert_eq!(cookie(from, to).expect("told"), Some(own));
            // It may not be accepted yet; a port that nobody uses has none.
            let other = SocketAddr::new(from.ip(), from.port() ^ 1);
            assert_ne!(cookie(other, to).expect("told"), Some(own));
        }
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        let bytes = request(SOCK_DIAG_BY_FAMILY, 0, AF_INET, STATES, &[0; ID]);
        assert!(message(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(message(&bytes[..length]).is_none(), "{length}");
        }
        assert!(connection(AF_INET, &[0; MESSAGE - 1]).is_none());
    }
}
