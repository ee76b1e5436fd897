//! TCP: a stream of lines, which is of no more use once a line may have been cut.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, set_tcp_user_timeout};

use super::{SendError, Socket, retry, timeout};

/// How long each address of a server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Tcp(TcpStream);

pub fn connect(address: SocketAddr, peer_timeout: Duration) -> io::Result<Tcp> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    set_tcp_user_timeout(&stream, u32::try_from(peer_timeout.as_millis()).unwrap_or(u32::MAX))?;
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

    /// Whether the server has closed its end.
    fn is_stale(&mut self) -> bool {
        has_closed(&mut self.0).unwrap_or(true)
    }

    /// To close with data of the server's unread would discard what was sent: its replies are read until it closes.
    fn finish(&mut self, deadline: Instant) {
        let _ = self.0.shutdown(Shutdown::Write);
        let mut replies = [0; 4096];
        while Instant::now() < deadline {
            let set = self.0.set_read_timeout(Some(timeout(deadline)));
            if set.is_err() || !matches!(self.0.read(&mut replies), Ok(1..)) {
                return;
            }
        }
    }

    /// Closed by a reset instead of an end of file, the server does not take a cut line for a whole one.
    fn reset(&mut self) {
        let _ = set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}

/// Whether the peer has closed its end. What it sends is discarded.
fn has_closed(stream: &mut TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let mut replies = [0; 4096];
    let closed = loop {
        match retry(|| stream.read(&mut replies)) {
            Ok(0) => break true,
            Ok(length) if length == replies.len() => {}
            Ok(_) => break false,
            Err(error) => break error.kind() != ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false)?;
    Ok(closed)
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
        socket.finish(Instant::now() + Duration::from_secs(30));
        assert_eq!(inbox.try_recv().unwrap().unwrap(), "a:1|g\n");
    }

    #[test]
    fn tcp_socket_is_stale_once_the_server_has_closed() {
        let (mut socket, mut server) = pair();
        server.write_all(b"hello").unwrap();
        assert!(!socket.is_stale());
        server.shutdown(Shutdown::Write).unwrap();
        // The first read may find the greeting alone.
        let start = Instant::now();
        while !socket.is_stale() {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
    }
}
