//! A unix datagram socket in the file system.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::statsd::socket::transport::{PeerState, SendError, Socket, is_temporary, retry, timeout};

pub struct Unix {
    socket: UnixDatagram,
    path: PathBuf,
    /// Device and inode of the socket it is connected to.
    inode: (u64, u64),
}

pub fn connect(path: &Path) -> io::Result<Unix> {
    let socket = UnixDatagram::unbound()?;
    let inode = inode(path)?;
    socket.connect(path)?;
    Ok(Unix { socket, path: path.to_owned(), inode })
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let socket = fs::metadata(path)?;
    Ok((socket.dev(), socket.ino()))
}

impl Socket for Unix {
    fn send(&mut self, datagram: &[u8], deadline: Instant) -> Result<(), SendError> {
        let set = self.socket.set_write_timeout(Some(timeout(deadline)));
        let sent = set.and_then(|()| retry(|| self.socket.send(datagram)));
        sent.map(drop).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => SendError::Stalled,
            _ if is_temporary(&error) => SendError::Dropped(error),
            _ => SendError::Broken(error),
        })
    }

    fn verdict(&self) -> &'static str {
        "accepts datagrams"
    }

    /// Another socket may have taken its place. A server may hold the replaced one open.
    fn peer_state(&mut self) -> PeerState {
        match inode(&self.path) {
            Ok(inode) if inode != self.inode => PeerState::Gone,
            _ => PeerState::Present,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_peer_is_gone_once_its_socket_is_replaced() {
        let path = std::env::temp_dir().join(format!("xenmonitor-stale-{}", std::process::id()));
        let server = UnixDatagram::bind(&path).unwrap();
        let mut socket = connect(&path).unwrap();
        assert!(matches!(socket.peer_state(), PeerState::Present));
        // Its name alone is removed: the server may still read.
        fs::remove_file(&path).unwrap();
        assert!(matches!(socket.peer_state(), PeerState::Present));
        let _second = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(socket.peer_state(), PeerState::Gone));
        drop(server);
        assert!(matches!(connect(&path).unwrap().peer_state(), PeerState::Present));
        fs::remove_file(&path).unwrap();
    }
}
