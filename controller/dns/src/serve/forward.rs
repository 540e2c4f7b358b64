//! Asking the machine's own resolvers, on behalf of a guest whose network allows it.
//!
//! Nothing of the guest's message goes on but name and type; of the answer only records come back, so that neither side
//! can say anything else to the other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Limits;
use crate::answer::UDP_PAYLOAD;

const RESOLVERS: &str = "/etc/resolv.conf";
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A resolver that fails is followed by the next, so often.
const TRIES: usize = 3;

pub(super) struct Forwarder {
    waiting: Semaphore,
}

impl Forwarder {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { waiting: Semaphore::new(limits.forwards) }
    }

    /// The reply with what others know; `SERVFAIL` when they say nothing.
    pub(super) async fn complete(&self, mut reply: Message, query: Query) -> Message {
        let asked = match self.waiting.try_acquire() {
            Ok(_place) => ask(&query).await,
            Err(_) => None,
        };
        match asked {
            Some(answer) => {
                reply.metadata.authoritative = false;
                reply.metadata.response_code = answer.metadata.response_code;
                reply.add_answers(answer.answers);
                reply.add_authorities(answer.authorities);
            }
            None => reply.metadata.response_code = ResponseCode::ServFail,
        }
        reply
    }
}

async fn ask(query: &Query) -> Option<Message> {
    // Read each time: a laptop's resolvers change with the network it is in.
    let text = tokio::fs::read_to_string(RESOLVERS).await.ok()?;
    let resolvers = resolvers(&text);
    for resolver in resolvers.iter().cycle().take(TRIES.min(resolvers.len() * 2)) {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.add_query(query.clone()).set_edns(edns);
        if let Ok(Ok(answer)) = timeout(PATIENCE, exchange(*resolver, &message)).await
            && answer.metadata.id == message.metadata.id
            && answer.queries.iter().any(|asked| asked == query)
        {
            return Some(answer);
        }
    }
    None
}

async fn exchange(resolver: SocketAddr, message: &Message) -> io::Result<Message> {
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let any: IpAddr = if resolver.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    // A port of its own for each question: whoever forges an answer has to guess it, besides the id.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut buffer).await?;
    let answer = Message::from_vec(&buffer[..length]).map_err(io::Error::other)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    stream.read_exact(&mut buffer[..length]).await?;
    Message::from_vec(&buffer[..length]).map_err(io::Error::other)
}

fn resolvers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_of_the_machine() {
        let text = "# a comment\nsearch x\nnameserver 127.0.0.53\nnameserver  fd00::1\nnameserver junk\n";
        let all: Vec<String> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["127.0.0.53:53", "[fd00::1]:53"]);
    }
}
