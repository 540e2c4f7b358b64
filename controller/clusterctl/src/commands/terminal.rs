//! The user's terminal, byte for byte.

use anyhow::{Context as _, Result};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// ctrl-], the escape of telnet and of `virsh console`.
pub const ESCAPE: u8 = 0x1d;

/// Raw mode, until dropped. Where standard input is no terminal nothing is done.
pub struct Raw(Option<Termios>);

impl Raw {
    /// Has every key reach the machine, ctrl-c too.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(&stdin).context("failed to read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw).context("failed to set the terminal's mode")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone, and then there is nothing to restore.
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Rows and columns; `None` when standard output is no terminal.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Why a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The user typed the escape.
    Escaped,
    /// The other end closed.
    Closed,
}

/// Carries keys there and output here, until the escape or the other end's close. Input that ends ends nothing: what
/// the machine still says is awaited.
pub async fn converse<S>(stream: S, mut input: impl AsyncRead + Unpin, mut output: impl Write) -> Result<Ended>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut keys, mut words) = (vec![0; 1024], vec![0; 16_384]);
    let mut typing = true;
    loop {
        tokio::select! {
            read = input.read(&mut keys), if typing => {
                let read = read.context("failed to read the keyboard")?;
                typing = read > 0;
                let escape = keys[..read].iter().position(|key| *key == ESCAPE);
                let typed = &keys[..escape.unwrap_or(read)];
                if to.write_all(typed).await.is_err() || to.flush().await.is_err() {
                    return Ok(Ended::Closed);
                }
                if escape.is_some() {
                    return Ok(Ended::Escaped);
                }
            }
            read = from.read(&mut words) => match read {
                Ok(0) | Err(_) => return Ok(Ended::Closed),
                Ok(read) => show(&mut output, &words[..read])?,
            }
        }
    }
}

fn show(output: &mut impl Write, words: &[u8]) -> Result<()> {
    output.write_all(words).and_then(|()| output.flush()).context("failed to write to the terminal")
}

/// Waits for the line that tells that somebody listens at the other end: what is typed before is lost. Answers what came
/// after it; all that came, when the line does not come in time (somebody else may have written into it).
pub async fn await_line(from: &mut (impl AsyncRead + Unpin), line: &str, limit: Duration) -> Vec<u8> {
    let mut seen = Vec::new();
    let reading = async {
        let mut words = vec![0; 4096];
        while let Ok(read @ 1..) = from.read(&mut words).await {
            seen.extend_from_slice(&words[..read]);
            if let Some(at) = seen.windows(line.len()).position(|part| part == line.as_bytes()) {
                seen.drain(..at + line.len());
                return;
            }
        }
    };
    // Ended or late: what there is, is shown.
    let _ = tokio::time::timeout(limit, reading).await;
    seen
}

/// Input that comes from a file or pipe, and then says what a user would to end a shell: end of transmission, on a line of
/// its own.
pub struct Farewell<R> {
    input: R,
    /// The last byte, and what is still to be said at the end.
    last: u8,
    rest: Option<&'static [u8]>,
}

impl<R> Farewell<R> {
    /// After this input.
    pub fn after(input: R) -> Self {
        Self { input, last: b'\n', rest: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Farewell<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        if self.rest.is_none() {
            std::task::ready!(Pin::new(&mut self.input).poll_read(cx, buffer))?;
            match buffer.filled()[before..].last() {
                Some(last) => {
                    self.last = *last;
                    return Poll::Ready(Ok(()));
                }
                None => self.rest = Some(if self.last == b'\n' { b"\x04" } else { b"\n\x04" }),
            }
        }
        let rest = self.rest.unwrap_or_default();
        let now = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..now]);
        self.rest = Some(&rest[now..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_go_there_until_the_escape() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let ended = converse(ours, &b"ls\n\x1dnever"[..], Vec::new()).await.unwrap();
        assert_eq!(ended, Ended::Escaped);
        let mut seen = String::new();
        theirs.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "ls\n");
    }

    #[tokio::test]
    async fn what_was_said_before_somebody_listened_is_dropped_and_nothing_after_it() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"old noise\r\nhere-7\r\nroot# ").await.unwrap();
        assert_eq!(await_line(&mut ours, "here-7\r\n", Duration::from_secs(60)).await, b"root# ");
        theirs.write_all(b"noise").await.unwrap();
        assert_eq!(await_line(&mut ours, "here-8\r\n", Duration::from_millis(50)).await, b"noise");
    }

    #[tokio::test]
    async fn piped_input_ends_the_shell_on_a_line_of_its_own() {
        for (input, sent) in [("", "\x04"), ("ls\n", "ls\n\x04"), ("ls", "ls\n\x04")] {
            let mut all = String::new();
            Farewell::after(input.as_bytes()).read_to_string(&mut all).await.unwrap();
            assert_eq!(all, sent);
        }
    }

    #[tokio::test]
    async fn output_is_shown_until_the_other_end_closes_though_input_has_ended() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"login: ").await.unwrap();
        drop(theirs);
        let mut shown = Vec::new();
        assert_eq!(converse(ours, tokio::io::empty(), &mut shown).await.unwrap(), Ended::Closed);
        assert_eq!(shown, b"login: ");
    }
}
