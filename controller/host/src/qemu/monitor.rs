//! Talking to QEMU about the machine: QMP over its Unix socket.
//!
//! QEMU serves one client per socket and keeps the next one waiting in the kernel's queue. So a [`Monitor`] is opened once
//! for a machine and shared by cloning; after a restart of ours the old connection is gone and a new one is simply made.
//! One task reads the socket: answers go to whoever asked, events to every subscriber. A command that misses its deadline
//! closes the connection, since its answer could come at any later time: the owner opens a new one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use qapi::futures::{QapiEvents, QapiService, QmpStreamTokio};
use qapi::qmp;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::command::AGENT_PORT;
use super::machine::QMP_SOCKET;
use super::socket;

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;
type Reader = QapiEvents<QmpStreamTokio<ReadHalf<UnixStream>>>;

/// QEMU answers in microseconds unless the host is starved.
const DEADLINE: Duration = Duration::from_secs(20);
/// Events a slow subscriber may fall behind before it is told that it missed some.
const EVENT_BACKLOG: usize = 64;

/// What went wrong between us and QEMU.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No QEMU listens on the socket.
    #[error("no QEMU answers on {socket}")]
    NotConnected {
        /// Socket's path.
        socket: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The connection ended while waiting for the answer.
    #[error("QEMU closed the connection during {command}")]
    Closed {
        /// Command sent.
        command: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("QEMU did not answer {command} within {} s", .deadline.as_secs())]
    Timeout {
        /// Command sent.
        command: &'static str,
        /// Time given.
        deadline: Duration,
    },
    /// QEMU refused the command.
    #[error("QEMU refused {command}: {description}")]
    CommandFailed {
        /// Command sent.
        command: &'static str,
        /// QEMU's words.
        description: String,
    },
}

/// Something that happened to the machine. A reason to look again, never a fact to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine ends, and QEMU with it.
    Shutdown {
        /// Whether the guest did it.
        by_guest: bool,
        /// QEMU's word for why.
        reason: String,
    },
    /// The machine begins anew.
    Reset {
        /// Whether the guest did it.
        by_guest: bool,
    },
    /// The CPUs stopped.
    Stop,
    /// The CPUs go on.
    Resume,
    /// The power button was pressed.
    Powerdown,
    /// The guest's kernel gave up.
    GuestPanicked,
    /// A disk could not be read or written.
    BlockIoError {
        /// Disk's node name.
        node_name: String,
        /// Whether the host's disk is full.
        no_space: bool,
    },
    /// The guest agent opened or closed its end of the channel.
    GuestAgent {
        /// Whether it is there now.
        open: bool,
    },
    /// Anything else.
    Other,
}

/// State of the virtual CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether they run.
    pub running: bool,
    /// QEMU's word: `running`, `paused`, `prelaunch`, `io-error`, …
    pub state: String,
}

/// What became of a guest that has ended while its QEMU waits for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It powered itself off.
    PoweredOff,
    /// Its kernel gave up.
    Panicked,
}

impl Status {
    /// How the guest ended, when it has.
    pub fn guest_end(&self) -> Option<GuestEnd> {
        match self.state.as_str() {
            "shutdown" => Some(GuestEnd::PoweredOff),
            "guest-panicked" => Some(GuestEnd::Panicked),
            _ => None,
        }
    }
}

/// The one connection to a QEMU, shared by cloning.
#[derive(Clone)]
pub struct Monitor(Arc<Connection>);

struct Connection {
    service: Service,
    events: broadcast::Sender<Event>,
    closed: CancellationToken,
    reader: tokio::task::AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("closed", &self.is_closed()).finish()
    }
}

impl Monitor {
    /// Connects to the QEMU of the machine in this run directory.
    ///
    /// Waits up to `deadline` for a QEMU that is still starting, or for another client to leave.
    pub async fn open(run_dir: &Path, deadline: Duration) -> Result<Monitor, Error> {
        let not_connected =
            |source| Error::NotConnected { socket: run_dir.join(QMP_SOCKET).display().to_string(), source };
        let handshake = async {
            let (read, write) = tokio::io::split(socket::connect(run_dir, QMP_SOCKET).await?);
            QmpStreamTokio::open_split(read, write).await?.negotiate().await
        };
        let stream = tokio::time::timeout(deadline, handshake).await;
        let stream =
            stream.map_err(|_| Error::Timeout { command: "the greeting", deadline })?.map_err(not_connected)?;
        let (service, reader) = stream.into_parts();
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let closed = CancellationToken::new();
        let task = tokio::spawn(read(reader, events.clone(), closed.clone()));
        Ok(Monitor(Arc::new(Connection { service, events, closed, reader: task.abort_handle() })))
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Whether the connection is gone: QEMU ended, or an answer was overdue.
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Returns when the connection is gone.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// What the CPUs do.
    pub async fn status(&self) -> Result<Status, Error> {
        let status = self.execute(qmp::query_status {}).await?;
        Ok(Status { running: status.running, state: qapi::Enum::name(&status.status).to_owned() })
    }

    /// The machine's UUID, to make sure whom we talk to.
    pub async fn uuid(&self) -> Result<String, Error> {
        Ok(self.execute(qmp::query_uuid {}).await?.UUID)
    }

    /// Lets the CPUs go on.
    pub async fn resume(&self) -> Result<(), Error> {
        self.execute(qmp::cont {}).await.map(drop)
    }

    /// Stops the CPUs; the guest notices nothing but a jump in time.
    pub async fn pause(&self) -> Result<(), Error> {
        self.execute(qmp::stop {}).await.map(drop)
    }

    /// Presses the power button.
    pub async fn power_down(&self) -> Result<(), Error> {
        self.execute(qmp::system_powerdown {}).await.map(drop)
    }

    /// Presses the reset button: memory is lost, disks are as the guest last wrote them.
    pub async fn reset(&self) -> Result<(), Error> {
        self.execute(qmp::system_reset {}).await.map(drop)
    }

    /// Ends QEMU at once, with its disks closed properly.
    pub async fn quit(&self) -> Result<(), Error> {
        match self.execute(qmp::quit {}).await {
            // QEMU may be gone before its answer is out.
            Ok(_) | Err(Error::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns when the guest has ended by itself, or its QEMU is gone.
    pub async fn guest_ended(&self) {
        // Subscribed before the look, so that nothing falls between the two.
        let mut events = self.events();
        while self.status().await.is_ok_and(|status| status.guest_end().is_none()) {
            tokio::select! {
                event = events.recv() => drop(event),
                () = self.closed() => return,
            }
        }
    }

    /// Any other command of QMP, for verbs that live elsewhere.
    pub async fn execute<C: qmp::QmpCommand>(&self, command: C) -> Result<C::Ok, Error> {
        let answer = tokio::time::timeout(DEADLINE, self.0.service.execute(command)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(qapi::ExecuteError::Qapi(error))) => {
                Err(Error::CommandFailed { command: C::NAME, description: error.desc })
            }
            Ok(Err(qapi::ExecuteError::Io(source))) => {
                self.close();
                Err(Error::Closed { command: C::NAME, source })
            }
            Err(_) => {
                self.close();
                Err(Error::Timeout { command: C::NAME, deadline: DEADLINE })
            }
        }
    }

    fn close(&self) {
        self.0.reader.abort();
        self.0.closed.cancel();
    }
}

async fn read(mut reader: Reader, events: broadcast::Sender<Event>, closed: CancellationToken) {
    let _closed = closed.drop_guard();
    // So that dropping the last handle ends the stream.
    let _ = reader.release();
    while let Some(next) = reader.next().await {
        match next {
            // Nobody listening is no error.
            Ok(event) => drop(events.send(translate(event))),
            Err(error) => {
                tracing::warn!(%error, "failed to read from QEMU; the connection is given up");
                return;
            }
        }
    }
}

fn translate(event: qmp::Event) -> Event {
    match event {
        qmp::Event::SHUTDOWN { data, .. } => {
            Event::Shutdown { by_guest: data.guest, reason: qapi::Enum::name(&data.reason).to_owned() }
        }
        qmp::Event::RESET { data, .. } => Event::Reset { by_guest: data.guest },
        qmp::Event::STOP { .. } => Event::Stop,
        qmp::Event::RESUME { .. } => Event::Resume,
        qmp::Event::POWERDOWN { .. } => Event::Powerdown,
        qmp::Event::GUEST_PANICKED { .. } => Event::GuestPanicked,
        qmp::Event::BLOCK_IO_ERROR { data, .. } => Event::BlockIoError {
            node_name: data.node_name.unwrap_or(data.device),
            no_space: data.nospace.unwrap_or_default(),
        },
        qmp::Event::VSERPORT_CHANGE { data, .. } if data.id == AGENT_PORT => Event::GuestAgent { open: data.open },
        _ => Event::Other,
    }
}
