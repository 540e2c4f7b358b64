//! A root shell on a machine's serial port.
//!
//! Lean guests have no SSH server and nobody to log in on the serial port, so as not to pay for either at boot. But they
//! have a guest agent, and that can put a shell on the serial port, while we hold the other end:
//!
//! ```text
//!  console ──────── bytes both ways ────────► /dev/ttyS0 ◄─ shell, in a session of its own
//!  exec    ─ "start the shell" ─► guest agent ──────────────┘  its exit code comes back as the execution's
//! ```
//!
//! There is one serial port, so there is one shell: a new one hangs up the old one, which lives on when we are killed.
//! What is typed and shown also goes to the serial log, as everything on that port does.

use super::guest::{self, subresource};
use super::stream;
use super::terminal::{self, Ended, Farewell, Raw};
use anyhow::{Context, Result, bail};
use crds::exec::{ExecRequest, ExecResult, ExecState};
use kube::Client;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::signal::unix::{SignalKind, signal};

/// How long the shell may take to listen; a busy emulated machine needs seconds to start one.
const LISTENS: Duration = Duration::from_secs(20);
/// Silence after which a shell that has ended has nothing more to say.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Arguments: terminal type, rows, columns (0: unknown), a word that is said on the port when it listens, and what else the
/// shell is told. The port is opened once and held, for it forgets its size when nobody has it open. What the guest agent
/// starts ignores interrupts, and no shell may undo that for itself: `env` can.
const START: &str = r#"
tty=/dev/ttyS0
[ -c "$tty" ] || { echo "the machine has no serial port $tty" >&2; exit 69; }
old=$(cat /run/clusterctl-shell 2>/dev/null)
[ -n "$old" ] && [ "$(readlink "/proc/$old/fd/0")" = "$tty" ] && kill -HUP "$old"
echo $$ >/run/clusterctl-shell
exec 3<>"$tty"
stty sane <&3
[ "$2" -gt 0 ] && stty rows "$2" cols "$3" <&3
export TERM="$1" HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$HOME" 2>/dev/null || cd /
word=$4
if [ -x /bin/bash ]; then
	set -- /bin/bash $5 -il
else
	set -- /bin/sh -il
fi
printf '%s\n' "$word" >&3
if env --default-signal=INT true 2>/dev/null; then
	exec env --default-signal=INT,QUIT setsid -c "$@" <&3 >&3 2>&3 3>&-
fi
exec setsid -c "$@" <&3 >&3 2>&3 3>&-
"#;

/// Has bash read whole lines, as plain shells do. Its line editor takes the terminal out of line mode for every prompt, and
/// the kernel turns an end of transmission that was typed before that into a NUL: a shell that is fed by a pipe, which does
/// not wait for prompts, would never hear of the end.
const WHOLE_LINES: &str = "--noediting";

const HANG_UP: &str = "kill -HUP \"$(cat /run/clusterctl-shell)\"";
const RESIZE: &str = "stty rows \"$1\" cols \"$2\" </dev/ttyS0";

/// Runs an interactive shell; the exit code is the shell's.
pub async fn run(client: &Client, namespace: &str, machine: &str) -> Result<ExitCode> {
    let mut stream = stream::open(client, &subresource(namespace, machine, "console")).await?;
    eprintln!("{machine} has no SSH server: a root shell on its serial port. `exit` or ctrl-] ends it.");
    let raw = Raw::enter()?;
    let word = format!("clusterctl-{}", uuid::Uuid::new_v4());
    let conversation = async {
        // The terminal, made sane, puts the carriage return before the line feed.
        let said = terminal::await_line(&mut stream, &format!("{word}\r\n"), LISTENS).await;
        let mut output = std::io::stdout();
        output.write_all(&said).context("failed to write to the terminal")?;
        let keys: Box<dyn AsyncRead + Unpin + Send> = match std::io::stdin().is_terminal() {
            true => Box::new(tokio::io::stdin()),
            false => Box::new(Farewell::after(tokio::io::stdin())),
        };
        match terminal::converse(&mut stream, keys, &mut output).await? {
            Ended::Escaped => Ok(None),
            Ended::Closed => bail!("{machine} closed the connection"),
        }
    };
    let ended = tokio::select! {
        result = shell(client, namespace, machine, &word) => result.map(Some),
        ended = conversation => ended,
        () = resizes(client, namespace, machine) => Ok(None),
    };
    drop(raw);
    if ended.is_ok() {
        last_words(&mut stream).await?;
    }
    eprintln!();
    let Some(result) = ended? else {
        once(client, namespace, machine, HANG_UP, Vec::new()).await?;
        return Ok(ExitCode::SUCCESS);
    };
    if !result.stderr.is_empty() {
        eprint!("{}", result.stderr);
    }
    Ok(ExitCode::from(u8::try_from(result.exit_code.unwrap_or(1) & 0xff).unwrap_or(1)))
}

/// Shows what the shell said just before it ended: its end is told by another way than its words.
async fn last_words(stream: &mut stream::Stream) -> Result<()> {
    let mut words = vec![0; 4096];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(LAST_WORDS, stream.read(&mut words)).await {
        std::io::stdout().write_all(&words[..read]).context("failed to write to the terminal")?;
    }
    std::io::stdout().flush().context("failed to write to the terminal")
}

/// Starts the shell and waits for its end.
async fn shell(client: &Client, namespace: &str, machine: &str, word: &str) -> Result<ExecResult> {
    let (rows, columns) = terminal::size().unwrap_or((0, 0));
    let editing = if std::io::stdin().is_terminal() { "" } else { WHOLE_LINES };
    let arguments = [&terminal_type(), &rows.to_string(), &columns.to_string(), word, editing].map(str::to_owned);
    once(client, namespace, machine, START, arguments.to_vec()).await
}

/// Tells the guest when the window changes; ends only if the system has no such signal.
async fn resizes(client: &Client, namespace: &str, machine: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return std::future::pending().await };
    while changes.recv().await.is_some() {
        if let Some((rows, columns)) = terminal::size() {
            let arguments = vec![rows.to_string(), columns.to_string()];
            if let Err(error) = once(client, namespace, machine, RESIZE, arguments).await {
                tracing::debug!(%error, "failed to pass on the window's size");
            }
        }
    }
    std::future::pending().await
}

/// Runs a script in the guest to its end, and forgets it there.
async fn once(
    client: &Client,
    namespace: &str,
    machine: &str,
    script: &str,
    arguments: Vec<String>,
) -> Result<ExecResult> {
    let mut command: Vec<String> = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    command.extend(arguments);
    let mut request = ExecRequest {
        name: format!("shell-{}", uuid::Uuid::new_v4()),
        command,
        stdin: None,
        wait_seconds: 20,
        tail_bytes: 4096,
        forget: true,
    };
    loop {
        let result = guest::ask(client, namespace, machine, &request).await?;
        match result.state {
            // From here on it is only looked after: after a reboot of the guest it must not be started again.
            ExecState::Running => request.command.clear(),
            ExecState::Exited => return Ok(result),
            ExecState::Lost => bail!("{machine} was restarted"),
        }
    }
}

/// The user's terminal type, if it is one a plain guest can know.
fn terminal_type() -> String {
    let known =
        ["linux", "screen", "screen-256color", "tmux", "tmux-256color", "vt100", "vt220", "xterm", "xterm-256color"];
    let ours = std::env::var("TERM").unwrap_or_default();
    if known.contains(&ours.as_str()) { ours } else { "vt100".to_owned() }
}
