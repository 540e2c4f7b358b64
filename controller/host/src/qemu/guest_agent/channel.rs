//! The bytes between us and `qemu-ga`, kept in step.
//!
//! The agent's protocol has no ids: an answer belongs to the command before it. After a command that was given up, its
//! late answer would be taken for the next one's. So before anything else is sent, a `guest-sync-delimited` with a number
//! of its own goes out, and everything up to the answer with that very number (marked by the byte 0xFF, which JSON never
//! holds) is thrown away.
//!
//! While the guest has no agent, what we send stays queued in QEMU; hence a second sync is sent only when the first has
//! been unanswered for long ([`RESEND`]): the guest may have been reset with it in its hands.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

const SENTINEL: u8 = 0xff;
/// When a sync is taken for lost.
const RESEND: Duration = Duration::from_secs(10);
/// The agent captures 16 MiB of each stream, which base64 makes a third longer; more than that is a guest gone mad.
const LONGEST_ANSWER: usize = 48 << 20;

/// What the agent says to a command.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Done; with this result.
    Return(Value),
    /// Refused or failed.
    Error {
        /// The agent's words.
        desc: String,
    },
}

/// A connection to the agent's port, over any stream so that tests can play the agent.
pub struct Channel<S> {
    stream: S,
    received: BytesMut,
    in_step: bool,
    sync: Option<(i64, Instant)>,
    next_sync: i64,
    resend: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// A channel whose other end may be in the middle of anything.
    pub fn new(stream: S) -> Channel<S> {
        // Unlike the numbers of our predecessor, whose syncs may still be unanswered.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Channel {
            stream,
            received: BytesMut::new(),
            in_step: false,
            sync: None,
            next_sync: (now.as_micros() as i64) & 0x000f_ffff_ffff_ffff,
            resend: RESEND,
        }
    }

    /// Sends one command and takes its answer. May be dropped at any point: the next call gets in step again first.
    pub async fn exchange(&mut self, command: &[u8]) -> io::Result<Answer> {
        self.send(command).await?;
        let line = self.line().await?;
        let answer = serde_json::from_slice(&line)?;
        self.in_step = true;
        Ok(answer)
    }

    /// Sends a command that is answered only when it fails, and waits a moment for that.
    pub async fn tell(&mut self, command: &[u8], moment: Duration) -> io::Result<Option<Answer>> {
        self.send(command).await?;
        match tokio::time::timeout(moment, self.line()).await {
            Ok(Ok(line)) => Ok(Some(serde_json::from_slice(&line)?)),
            // What was told may well end the machine within that moment.
            Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn send(&mut self, command: &[u8]) -> io::Result<()> {
        if !self.in_step {
            self.get_in_step().await?;
        }
        // Until the answer is whole, we are not.
        self.in_step = false;
        self.stream.write_all(command).await?;
        self.stream.write_all(b"\n").await
    }

    async fn get_in_step(&mut self) -> io::Result<()> {
        loop {
            let (id, sent) = match self.sync {
                Some((id, sent)) if sent.elapsed() < self.resend => (id, sent),
                _ => self.send_sync().await?,
            };
            match tokio::time::timeout_at(sent + self.resend, self.synced(id)).await {
                Ok(done) => {
                    self.sync = None;
                    return done;
                }
                Err(_) => continue,
            }
        }
    }

    async fn send_sync(&mut self) -> io::Result<(i64, Instant)> {
        self.next_sync += 1;
        let sync = (self.next_sync, Instant::now());
        self.sync = Some(sync);
        let command = serde_json::json!({"execute": "guest-sync-delimited", "arguments": {"id": sync.0}});
        // The sentinel makes the agent forget half a command, too.
        let mut bytes = vec![SENTINEL];
        bytes.extend(command.to_string().into_bytes());
        bytes.push(b'\n');
        self.stream.write_all(&bytes).await?;
        Ok(sync)
    }

    async fn synced(&mut self, id: i64) -> io::Result<()> {
        loop {
            while let Some(at) = self.received.iter().position(|byte| *byte == SENTINEL) {
                self.received.advance(at + 1);
                let line = self.line().await?;
                match serde_json::from_slice(&line) {
                    Ok(Answer::Return(Value::Number(number))) if number.as_i64() == Some(id) => return Ok(()),
                    _ => continue,
                }
            }
            self.received.clear();
            self.receive().await?;
        }
    }

    /// The next line; leaves it in the buffer when dropped halfway.
    async fn line(&mut self) -> io::Result<BytesMut> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                return Ok(self.received.split_to(searched + at + 1));
            }
            searched = self.received.len();
            if searched > LONGEST_ANSWER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the guest agent's answer has no end"));
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.received.reserve(64 << 10);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, Lines};
    use tokio::io::{BufReader, DuplexStream, duplex};

    /// The other end: reads our commands, and answers what the test wants.
    struct Agent {
        commands: Lines<BufReader<tokio::io::ReadHalf<DuplexStream>>>,
        answers: tokio::io::WriteHalf<DuplexStream>,
    }

    fn pair() -> (Channel<DuplexStream>, Agent) {
        let (ours, theirs) = duplex(1 << 16);
        let (read, answers) = tokio::io::split(theirs);
        // Lossy lines would be nicer, but the sentinel is the only byte that is no UTF-8.
        let commands = BufReader::new(read).lines();
        (Channel::new(ours), Agent { commands, answers })
    }

    impl Agent {
        async fn sync_id(&mut self) -> i64 {
            let mut first = [0];
            self.commands.get_mut().read_exact(&mut first).await.unwrap();
            assert_eq!(first[0], SENTINEL);
            let line = self.commands.next_line().await.unwrap().unwrap();
            let command: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(command["execute"], "guest-sync-delimited");
            command["arguments"]["id"].as_i64().unwrap()
        }

        async fn say(&mut self, bytes: impl AsRef<[u8]>) {
            self.answers.write_all(bytes.as_ref()).await.unwrap();
        }

        async fn sync(&mut self) {
            let id = self.sync_id().await;
            self.say(b"\xff").await;
            self.say(format!("{{\"return\": {id}}}\n")).await;
        }
    }

    fn returned(answer: Answer) -> Value {
        match answer {
            Answer::Return(value) => value,
            Answer::Error { desc } => panic!("{desc}"),
        }
    }

    #[tokio::test]
    async fn a_late_answer_is_not_taken_for_the_next_one_s() {
        let (mut channel, mut agent) = pair();
        let play = async {
            agent.sync().await;
            assert_eq!(agent.commands.next_line().await.unwrap().unwrap(), "slow");
            // Given up by now. Its answer comes before that of the next sync.
            let id = agent.sync_id().await;
            agent.say("{\"return\": \"late\"}\n").await;
            agent.say(b"\xff").await;
            agent.say(format!("{{\"return\": {id}}}\n")).await;
            assert_eq!(agent.commands.next_line().await.unwrap().unwrap(), "quick");
            agent.say("{\"return\": \"mine\"}\n").await;
        };
        let ask = async {
            let given_up = tokio::time::timeout(Duration::from_millis(50), channel.exchange(b"slow")).await;
            assert!(given_up.is_err());
            returned(channel.exchange(b"quick").await.unwrap())
        };
        let (answer, ()) = tokio::join!(ask, play);
        assert_eq!(answer, "mine");
    }

    #[tokio::test]
    async fn answers_to_a_predecessor_s_syncs_are_thrown_away() {
        let (mut channel, mut agent) = pair();
        let play = async {
            let id = agent.sync_id().await;
            agent.say(b"half an ans\xff{\"return\": 7}\n{\"return\": {}}\n\xff").await;
            agent.say(format!("{{\"return\": {id}}}\n")).await;
            agent.commands.next_line().await.unwrap();
            agent.say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n").await;
        };
        let (answer, ()) = tokio::join!(channel.exchange(b"x"), play);
        assert!(matches!(answer.unwrap(), Answer::Error { desc } if desc == "no"));
    }

    #[tokio::test]
    async fn a_guest_without_agent_is_not_flooded_with_syncs() {
        let (mut channel, mut agent) = pair();
        for _ in 0..8 {
            let asked = tokio::time::timeout(Duration::from_millis(1), channel.exchange(b"x")).await;
            assert!(asked.is_err());
        }
        let first = agent.sync_id().await;
        channel.resend = Duration::from_millis(1);
        let asked = tokio::time::timeout(Duration::from_millis(20), channel.exchange(b"x")).await;
        assert!(asked.is_err());
        // The second one that ever came is from after the first was taken for lost.
        assert_eq!(agent.sync_id().await, first + 1);
    }

    #[tokio::test]
    async fn the_end_of_the_socket_is_an_error() {
        let (mut channel, agent) = pair();
        drop(agent);
        assert!(channel.exchange(b"x").await.is_err());
    }
}
