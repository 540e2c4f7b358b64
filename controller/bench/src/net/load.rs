//! A small load: connections, bytes, datagrams and questions from a thread in a guest's namespace, bounded in time and number.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use host::netns::{Namespace, run_in};

/// How long each measurement lasts.
pub const TIME: Duration = Duration::from_millis(800);
/// Connections of one measurement at most: fewer than a client has ports.
const MOST: usize = 20_000;
/// How long a single connection, byte or answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients at once.
const CLIENTS: usize = 2;
/// Questions under way at once of each client.
const UNDER_WAY: usize = 16;
/// After so long without any answer they are taken for lost.
const LOST: Duration = Duration::from_millis(50);

/// Runs a blocking load in the namespace, off the runtime's workers.
async fn blocking<T: Send + 'static>(
    namespace: &Namespace,
    load: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let namespace = namespace.clone();
    let done = tokio::task::spawn_blocking(move || run_in(&namespace, load)).await.context("a load ended early")?;
    done?.context("a load failed")
}

/// New connections a second: each is made, hears its first byte, and is reset.
pub async fn connections(from: &Namespace, to: SocketAddr) -> Result<f64> {
    let made = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let client = |made: Arc<AtomicUsize>| {
        blocking(from, move || {
            while begun.elapsed() < TIME && made.fetch_add(1, Ordering::Relaxed) < MOST {
                connect(to)?;
            }
            made.fetch_sub(1, Ordering::Relaxed);
            Ok(Instant::now())
        })
    };
    let clients = futures::future::try_join_all((0..CLIENTS).map(|_| client(made.clone()))).await?;
    let end = clients.into_iter().max().unwrap_or(begun);
    // Each client took back the one it did not make; at the limit that is one that was never begun either.
    Ok(made.load(Ordering::Relaxed) as f64 / end.duration_since(begun).as_secs_f64())
}

/// One connection.
pub fn connect(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0])?;
    // No port waits for stragglers of this connection.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Sends bytes through one connection; the time it took.
pub async fn bytes(from: &Namespace, to: SocketAddr) -> Result<Duration> {
    blocking(from, move || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0])?;
        let (begun, block) = (Instant::now(), vec![0; 128 << 10]);
        while begun.elapsed() < TIME {
            stream.write_all(&block)?;
        }
        Ok(begun.elapsed())
    })
    .await
}

/// Sends small datagrams; the time it took.
pub async fn datagrams(from: &Namespace, to: SocketAddr) -> Result<Duration> {
    blocking(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            for _ in 0..32 {
                // A full queue is the receiver's to count.
                let _ = socket.send(&[0; 64]);
            }
        }
        Ok(begun.elapsed())
    })
    .await
}

/// Answers a second to questions for addresses of these names, asked one after the other and many at once.
pub async fn answers(from: &Namespace, server: SocketAddr, names: Arc<Vec<String>>) -> Result<f64> {
    let begun = Instant::now();
    let client = |number: usize| {
        let names = names.clone();
        blocking(from, move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(LOST))?;
            let mut questions = names.iter().cycle().skip(number * names.len() / CLIENTS);
            let (mut answered, mut id) = (0_usize, 0_u16);
            let mut ask = || {
                id = id.wrapping_add(1);
                questions.next().map_or(Ok(0), |name| socket.send(&question(id, name)))
            };
            for _ in 0..UNDER_WAY {
                ask()?;
            }
            let mut buffer = [0; 1500];
            while begun.elapsed() < TIME {
                let Ok(length) = socket.recv(&mut buffer) else {
                    // All that were under way were lost.
                    (0..UNDER_WAY).try_for_each(|_| ask().map(drop))?;
                    continue;
                };
                // A whole header, no error, one answer (RFC 1035 §4.1.1).
                if length > 12 && buffer[3] & 15 == 0 && buffer[7] == 1 {
                    answered += 1;
                }
                ask()?;
            }
            Ok(answered as f64 / begun.elapsed().as_secs_f64())
        })
    };
    Ok(futures::future::try_join_all((0..CLIENTS).map(client)).await?.into_iter().sum())
}

/// How long it takes from `begun` until the server knows the name.
pub async fn known(
    from: &Namespace,
    server: SocketAddr,
    name: String,
    begun: Instant,
    give_up: Arc<AtomicBool>,
) -> Result<Duration> {
    blocking(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut buffer = [0; 1500];
        for id in 0..=u16::MAX {
            socket.send(&question(id, &name))?;
            // Whichever of the questions it answers: all are for that name.
            let heard = socket.recv(&mut buffer).is_ok_and(|length| length > 12);
            if heard && buffer[3] & 15 == 0 && buffer[7] == 1 {
                return Ok(begun.elapsed());
            }
            if give_up.load(Ordering::Relaxed) || begun.elapsed() > Duration::from_secs(30) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("the name was never known"))
    })
    .await
}

/// A question for a name's IPv4 address (RFC 1035 §4.1).
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.bytes().take(63));
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_question_is_a_header_a_name_a_type_and_a_class() {
        let bytes = super::question(258, "a.bc.");
        assert_eq!(bytes, [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
    }
}
