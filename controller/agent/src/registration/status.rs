//! What the Host says of its machine.

use crds::condition::{READY, set};
use crds::host::{Capabilities, Capacity};
use crds::{Host, HostStatus};
use host::proxy;
use host::qemu::start::{PROGRAM, PROGRAM_VARIABLE};
use jiff::Timestamp;
use tokio::process::Command;

use super::Registration;

/// The Host's status.
pub(super) fn compute(
    registration: &Registration,
    capabilities: &Capabilities,
    host: &Host,
    started: Timestamp,
) -> HostStatus {
    let mut conditions = host.status.clone().unwrap_or_default().conditions;
    let generation = host.metadata.generation;
    set(&mut conditions, READY, true, "AgentRunning", "The agent is up.", generation);
    HostStatus {
        observed_generation: generation,
        endpoint: Some(registration.endpoint.clone()),
        underlay_address: Some(registration.underlay_address.to_string()),
        capacity: capacity(),
        capabilities: capabilities.clone(),
        boot_id: Some(process::boot_id()),
        agent_started_at: Some(started),
        conditions,
    }
}

/// Processors this process may use, and the machine's memory.
fn capacity() -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = rustix::system::sysinfo();
    Capacity {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_bytes: info.totalram.saturating_mul(u64::from(info.mem_unit)),
    }
}

/// What this machine can do. A QEMU or HAProxy that is missing is told here, and again by
/// what needs it.
pub(super) async fn observe_capabilities(registration: &Registration) -> Capabilities {
    let accelerator = &registration.accelerator;
    let uname = rustix::system::uname();
    Capabilities {
        accelerator: accelerator.accelerator.to_string(),
        accelerator_reason: accelerator.reason.clone(),
        kernel: uname.release().to_string_lossy().into_owned(),
        qemu: version(PROGRAM, PROGRAM_VARIABLE, "--version").await.unwrap_or_default(),
        haproxy: version(proxy::PROGRAM, proxy::PROGRAM_VARIABLE, "-v").await.unwrap_or_default(),
        outside: registration.outside,
        stateful_filter: registration.filter.is_ok(),
        stateful_filter_reason: registration.filter.clone().err().unwrap_or_default(),
    }
}

/// What follows the word "version" in what a program says when it is asked so.
async fn version(program: &str, variable: &str, ask: &str) -> Option<String> {
    let program = process::find_program(program, variable).ok()?;
    let output = Command::new(program).arg(ask).kill_on_drop(true).output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().skip_while(|word| *word != "version").nth(1).map(str::to_owned)
}
