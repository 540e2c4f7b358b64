//! What server and agent use while nothing happens. etcd is not ours and does not count.

use std::time::Duration;

use anyhow::Result;

use crate::figure::{Report, Sample};
use crate::lab::Lab;
use crate::usage;

/// What a start leaves to be done has been done after this.
const SETTLE: Duration = Duration::from_secs(10);

/// Watches both for that long.
pub async fn measure(lab: &Lab, seconds: u64, state: &str, report: &mut Report) -> Result<()> {
    eprintln!("bench: watching server and agent for {seconds} s, {state}");
    tokio::time::sleep(SETTLE).await;
    let pids = [lab.process("server")?.pid, lab.process("agent-host01")?.pid];
    let before = pids.map(|pid| (usage::cpu(pid), usage::sleeps(pid)));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (mut memory, mut share, mut cpu, mut notes) = (0.0, 0.0, 0.0, Vec::new());
    for ((pid, name), (cpu_before, sleeps_before)) in pids.into_iter().zip(["server", "agent"]).zip(before) {
        let (resident, proportional) = usage::memory(pid)?;
        let percent = (usage::cpu(pid)? - cpu_before?).as_secs_f64() / seconds as f64 * 100.0;
        let wakeups = usage::sleeps(pid).saturating_sub(sleeps_before) as f64 / seconds as f64;
        notes.push(format!("{name} {resident:.1} MiB, {percent:.2} %, {wakeups:.0} wake-ups a second"));
        memory += resident;
        share += proportional;
        cpu += percent;
    }
    report.add(format!("server + agent, {state}: RSS"), "MiB", &Sample::one(memory), None, "64 MB");
    report.note(format!("{}; {share:.1} MiB when shared pages are counted once", notes.join("; ")));
    report.add(format!("server + agent, {state}: CPU"), "% of a core", &Sample::one(cpu), None, "1 %");
    Ok(())
}
