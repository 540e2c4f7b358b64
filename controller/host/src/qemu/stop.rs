//! Ending a machine: kindly, then firmly, then surely.
//!
//! ```text
//!  guest agent or power button ──off, or grace over──► quit ──► SIGKILL through a pidfd
//! ```

use std::path::Path;
use std::time::Duration;

use process::ProcessId;
use rustix::process::Signal;

use super::guest_agent::GuestAgent;
use super::monitor::Monitor;
use super::start::{self, Error, Found};

/// How long QEMU may take to close its disks.
const QUIT: Duration = Duration::from_secs(5);
/// How long the guest agent may take to take the order.
const ASK: Duration = Duration::from_secs(3);

/// How the machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did not run.
    Already,
    /// The guest shut itself down.
    Gracefully,
    /// QEMU was told to end.
    Quit,
    /// QEMU was killed.
    Killed,
}

/// Ends the machine and forgets it. With no `grace`, the guest is not asked.
pub async fn stop(
    run_dir: &Path,
    monitor: Option<&Monitor>,
    agent: Option<&GuestAgent>,
    grace: Duration,
) -> Result<Ended, Error> {
    let ended = match start::observe(run_dir)? {
        Found::Running(id) => end(id, monitor, agent, grace).await?,
        Found::Dead | Found::Absent => Ended::Already,
    };
    start::forget(run_dir)?;
    Ok(ended)
}

async fn end(
    id: ProcessId,
    monitor: Option<&Monitor>,
    agent: Option<&GuestAgent>,
    grace: Duration,
) -> Result<Ended, Error> {
    let asked = !grace.is_zero() && ask(monitor, agent).await;
    let obeyed = asked && off(id, monitor, grace).await;
    if !id.is_alive() {
        return Ok(Ended::Gracefully);
    }
    if let Some(monitor) = monitor {
        match monitor.quit().await {
            Ok(()) if gone(id, QUIT).await => return Ok(if obeyed { Ended::Gracefully } else { Ended::Quit }),
            Ok(()) => tracing::warn!(pid = id.pid, "QEMU did not end when told to; it is killed"),
            Err(error) => tracing::warn!(pid = id.pid, %error, "failed to tell QEMU to end; it is killed"),
        }
    }
    kill(id).await?;
    Ok(Ended::Killed)
}

/// Ends QEMU at once, as if the power had failed.
pub async fn kill(id: ProcessId) -> Result<(), Error> {
    if let Err(source) = id.signal(Signal::KILL)
        && id.is_alive()
    {
        return Err(process::Error::Signal { pid: id.pid, source }.into());
    }
    // Nothing left to be gentle with; this waits, and says so when the kernel does not let go.
    Ok(id.terminate(Duration::ZERO).await?)
}

/// Asks the guest to shut down; false when there is nobody to ask.
async fn ask(monitor: Option<&Monitor>, agent: Option<&GuestAgent>) -> bool {
    let Some(monitor) = monitor else { return false };
    match monitor.status().await {
        // It has not run one instruction.
        Ok(status) if status.state == "prelaunch" => return false,
        Ok(status) if status.guest_end().is_some() => return true,
        // A paused guest hears nothing.
        Ok(status) if !status.running => drop(monitor.resume().await),
        Ok(_) => {}
        Err(_) => return false,
    }
    if let Some(agent) = agent
        && agent.shutdown(ASK).await.is_ok()
    {
        return true;
    }
    monitor.power_down().await.is_ok()
}

/// Whether the guest is off in time. Its QEMU waits for us then, or is gone.
async fn off(id: ProcessId, monitor: Option<&Monitor>, within: Duration) -> bool {
    let off = async {
        match monitor {
            Some(monitor) => {
                monitor.guest_ended().await;
                if monitor.is_closed() {
                    id.exited().await;
                }
            }
            None => id.exited().await,
        }
    };
    tokio::time::timeout(within, off).await.is_ok()
}

async fn gone(id: ProcessId, within: Duration) -> bool {
    tokio::time::timeout(within, id.exited()).await.is_ok()
}
