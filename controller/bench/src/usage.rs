//! What a process uses, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time on a CPU so far, in user and kernel mode, of all threads.
pub fn cpu(pid: i32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    // The program's name may hold anything, so the fields are counted from behind it.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
    let ticks = ticks.with_context(|| format!("{path} has no times"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// What the processes that take part in a measurement spend on it.
pub struct Spending {
    pids: Vec<i32>,
    before: Vec<Duration>,
}

impl Spending {
    /// Begins to count.
    pub fn of(pids: Vec<i32>) -> Result<Spending> {
        let before = pids.iter().map(|pid| cpu(*pid)).collect::<Result<_>>()?;
        Ok(Spending { pids, before })
    }

    /// Microseconds on a CPU since then, of each process for each of so many operations.
    pub fn each(&self, operations: usize) -> Result<Vec<f64>> {
        let spent = |(pid, before): (&i32, &Duration)| {
            Ok(cpu(*pid)?.saturating_sub(*before).as_secs_f64() * 1e6 / operations.max(1) as f64)
        };
        self.pids.iter().zip(&self.before).map(spent).collect()
    }
}

/// Resident memory in MiB, and the share of it when what several processes share is divided between them.
pub fn memory(pid: i32) -> Result<(f64, f64)> {
    Ok((kibibytes(&format!("/proc/{pid}/status"), "VmRSS:")?, kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")?))
}

fn kibibytes(path: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(value.with_context(|| format!("{path} has no {name}"))? / 1024.0)
}

/// How often its threads that live now have gone to sleep.
pub fn sleeps(pid: i32) -> u64 {
    let of_task = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("status")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().filter_map(of_task).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn our_own_process_can_be_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        super::cpu(pid).unwrap();
        let (resident, share) = super::memory(pid).unwrap();
        assert!(resident > 0.0 && share > 0.0);
        assert!(super::sleeps(pid) < u64::MAX);
    }
}
