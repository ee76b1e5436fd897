//! TCP: a stream of lines, which is of no more use once a line may have been cut.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_linger, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_user_timeout,
};

use crate::statsd::socket::transport::{PeerState, SendError, Socket, retry, timeout};

/// How long each address of a server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After so much idle time an empty segment is sent, so that no NAT or firewall between forgets the connection (the
/// shortest of their usual time-outs are four minutes), then at these intervals and so many times until one is
/// answered.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVES: u32 = 4;

/// How many of a server's replies are read before the next datagrams are sent: one that never stops replying must not
/// hold them up.
const MAX_REPLIES: usize = 4;

pub struct Tcp(TcpStream);

pub fn connect(address: SocketAddr, ack_timeout: Duration) -> io::Result<Tcp> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    set_tcp_user_timeout(&stream, u32::try_from(ack_timeout.as_millis()).unwrap_or(u32::MAX))?;
    set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    set_tcp_keepcnt(&stream, KEEPALIVES)?;
    set_socket_keepalive(&stream, true)?;
    Ok(Tcp(stream))
}

impl Socket for Tcp {
    fn send(&mut self, datagram: &[u8], deadline: Instant) -> Result<(), SendError> {
        let set = self.0.set_write_timeout(Some(timeout(deadline)));
        set.and_then(|()| self.0.write_all(datagram)).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => SendError::Stalled,
            _ => SendError::Broken(error),
        })
    }

    fn verdict(&self) -> &'static str {
        "connected (TCP does not report whether the server reads)"
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()
    }

    fn peer_state(&mut self) -> PeerState {
        peer_state(&mut self.0).unwrap_or_else(|error| PeerState::Failed(SendError::Broken(error)))
    }

    /// To close with data of the server's unread would discard what was sent: its replies are read until it closes.
    fn finish(&mut self, deadline: Instant) -> Option<io::Error> {
        finish(&mut self.0, deadline).err()
    }

    /// Closed by a reset instead of an end of file, the server does not take a cut line for a whole one.
    fn reset(&mut self) {
        let _ = set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}

/// What the peer sends is discarded. If it closes its end before it has read everything, or without reading what
/// arrives later, its kernel resets the connection.
fn peer_state(stream: &mut TcpStream) -> io::Result<PeerState> {
    stream.take_error()?.map_or(Ok(()), Err)?;
    stream.set_nonblocking(true)?;
    let mut replies = [0; 4096];
    let mut state = PeerState::Present;
    for _ in 0..MAX_REPLIES {
        match retry(|| stream.read(&mut replies)) {
            Ok(0) => state = PeerState::Gone,
            Ok(length) if length == replies.len() => continue,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        break;
    }
    stream.set_nonblocking(false)?;
    Ok(state)
}

fn finish(stream: &mut TcpStream, deadline: Instant) -> io::Result<()> {
    stream.take_error()?.map_or(Ok(()), Err)?;
    stream.shutdown(Shutdown::Write)?;
    let mut replies = [0; 4096];
    while Instant::now() < deadline {
        stream.set_read_timeout(Some(timeout(deadline)))?;
        match stream.read(&mut replies) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    stream.take_error()?.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn pair() -> (Tcp, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect(listener.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
        (socket, listener.accept().unwrap().0)
    }

    fn send(socket: &mut Tcp, text: &[u8]) {
        socket.send(text, Instant::now() + Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn tcp_reset_is_no_end_of_file() {
        for (reset, expected) in [(false, Ok(())), (true, Err(ErrorKind::ConnectionReset))] {
            let (mut socket, mut server) = pair();
            send(&mut socket, b"a:1|g\nb:");
            if reset {
                socket.reset();
            }
            drop(socket);
            let end = server.read_to_end(&mut Vec::new());
            assert_eq!(end.map(drop).map_err(|error| error.kind()), expected);
        }
    }

    /// The server reads until the end of the stream, which has to come before the socket is closed.
    #[test]
    fn tcp_finish_delivers_everything_to_a_server_that_replies() {
        let (mut socket, mut server) = pair();
        server.write_all(&[b'!'; 60]).unwrap();
        send(&mut socket, b"a:1|g\n");
        let (texts, inbox) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            texts.send(server.read_to_string(&mut text).map(|_| text)).unwrap();
        });
        assert!(socket.finish(Instant::now() + Duration::from_secs(30)).is_none());
        assert_eq!(inbox.try_recv().unwrap().unwrap(), "a:1|g\n");
    }

    /// Waits until the peer is not present any more.
    fn end_state(socket: &mut Tcp) -> PeerState {
        let start = Instant::now();
        loop {
            match socket.peer_state() {
                PeerState::Present => assert!(start.elapsed() < Duration::from_secs(60)),
                state => return state,
            }
        }
    }

    #[test]
    fn tcp_peer_is_gone_once_it_has_closed() {
        let (mut socket, mut server) = pair();
        server.write_all(b"hello").unwrap();
        assert!(matches!(socket.peer_state(), PeerState::Present));
        send(&mut socket, b"a:1|g\n");
        server.read_exact(&mut [0; 6]).unwrap();
        drop(server);
        assert!(matches!(end_state(&mut socket), PeerState::Gone), "it has read everything");
    }

    #[test]
    fn tcp_peer_fails_if_it_closes_before_it_has_read() {
        let (mut socket, server) = pair();
        send(&mut socket, b"a:1|g\n");
        drop(server);
        assert!(matches!(end_state(&mut socket), PeerState::Failed(_)));

        let (mut socket, server) = pair();
        drop(server);
        assert!(matches!(end_state(&mut socket), PeerState::Gone));
        send(&mut socket, b"a:1|g\n");
        assert!(socket.finish(Instant::now() + Duration::from_secs(5)).is_some());
    }

    /// One that writes faster than this program reads would otherwise hold up the datagrams for ever.
    #[test]
    fn tcp_peer_that_never_stops_replying_is_present() {
        let (mut socket, mut server) = pair();
        server.set_nonblocking(true).unwrap();
        let mut replied = 0;
        while let Ok(length) = server.write(&[b'!'; 65_536]) {
            replied += length;
        }
        assert!(matches!(socket.peer_state(), PeerState::Present));
        drop(server);
        let unread = socket.0.read_to_end(&mut Vec::new()).unwrap();
        assert!(unread + MAX_REPLIES * 4096 >= replied, "{unread} of {replied} bytes are left");
    }

    #[test]
    fn tcp_keeps_idle_connections_alive() {
        use rustix::net::sockopt::{socket_keepalive, tcp_keepidle};
        let (socket, _server) = pair();
        assert!(socket_keepalive(&socket.0).unwrap());
        assert!(tcp_keepidle(&socket.0).unwrap() < Duration::from_secs(240));
    }
}
