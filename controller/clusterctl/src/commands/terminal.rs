//! The user's terminal, byte for byte.

use anyhow::{Context, Result};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
                Ok(read) => output
                    .write_all(&words[..read])
                    .and_then(|()| output.flush())
                    .context("failed to write to the terminal")?,
            }
        }
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
    async fn output_is_shown_until_the_other_end_closes_though_input_has_ended() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"login: ").await.unwrap();
        drop(theirs);
        let mut shown = Vec::new();
        assert_eq!(converse(ours, tokio::io::empty(), &mut shown).await.unwrap(), Ended::Closed);
        assert_eq!(shown, b"login: ");
    }
}
