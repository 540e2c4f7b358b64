//! The readiness command of a machine: asking the guest, and what its answers come to.

use std::time::{Duration, Instant};

use control_loop::sentence;
use crds::virtual_machine::Readiness;
use host::qemu::guest_agent::{GuestAgent, Output, Program};

/// Before the first success a readiness command is tried at least this often, so that a long period delays no boot.
const EAGER: Duration = Duration::from_secs(1);
/// Bytes of a failed command's last words that are told.
const WORDS: usize = 300;
/// How long they stand before newer ones are told. Many a program puts the time into its complaint, and a machine that is not
/// ready yet is asked every second: that would be a write a second.
const WORDS_STAND: Duration = Duration::from_secs(60);

/// What the readiness command says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Its verdict, once there is one.
    pub ready: Option<bool>,
    /// Why not.
    pub message: Option<String>,
    failures: u32,
    said: Option<Instant>,
}

impl Probe {
    /// Takes in one try. A ready machine stays ready until as many tries failed in a row as the threshold says.
    pub(super) fn note(&mut self, result: Result<(), String>, threshold: u32, now: Instant) {
        match result {
            Ok(()) => *self = Probe { ready: Some(true), ..Probe::default() },
            Err(message) => {
                self.failures = self.failures.saturating_add(1);
                let stands = self.said.is_some_and(|at| now.duration_since(at) < WORDS_STAND);
                if (self.ready != Some(true) || self.failures >= threshold) && !stands {
                    self.ready = Some(false);
                    self.message = Some(message);
                    self.said = Some(now);
                }
            }
        }
    }

    /// What others see of it.
    pub(super) fn visible(&self) -> (Option<bool>, &Option<String>) {
        (self.ready, &self.message)
    }
}

/// Time until the next try: a machine that is not ready is asked eagerly.
pub(super) fn pause(wanted: &Readiness, ready: Option<bool>) -> Duration {
    let period = Duration::from_secs(wanted.period_seconds.into());
    if ready == Some(true) { period } else { period.min(EAGER) }
}

/// Tries once; what it complained of when it fails.
pub(super) async fn try_readiness(agent: &GuestAgent, wanted: &Readiness) -> Result<(), String> {
    let Some((path, args)) = wanted.exec.split_first() else { return Ok(()) };
    let program = Program { path: path.clone(), args: args.to_vec(), env: None, input: None, capture: true };
    match agent.run(&program, Duration::from_secs(wanted.timeout_seconds.into())).await {
        Ok(output) if output.code == Some(0) => Ok(()),
        Ok(output) => Err(last_words(&output)),
        Err(error) => Err(sentence(&error)),
    }
}

fn last_words(output: &Output) -> String {
    let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let tail = String::from_utf8_lossy(&words[words.len().saturating_sub(WORDS)..]).trim().to_owned();
    let end = match (output.code, output.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    if tail.is_empty() {
        format!("The readiness command ended with {end}.")
    } else {
        format!("The readiness command ended with {end}: {tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_differ_each_time_are_told_once_a_minute() {
        let (mut probe, start) = (Probe::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..150 {
            probe.note(Err(format!("not yet at {second}")), 3, start + Duration::from_secs(second));
            if told.last() != probe.message.as_ref() {
                told.extend(probe.message.clone());
            }
        }
        assert_eq!(told, ["not yet at 0", "not yet at 60", "not yet at 120"]);
        let later = start + Duration::from_secs(150);
        probe.note(Ok(()), 3, later);
        assert_eq!(probe.visible(), (Some(true), &None));
        (0..3).for_each(|_| probe.note(Err("gone".into()), 3, later));
        assert_eq!(probe.visible(), (Some(false), &Some("gone".into())), "after a success nothing is kept back");
    }

    #[test]
    fn a_ready_machine_bears_as_many_failures_as_its_threshold_less_one() {
        let (mut probe, now) = (Probe::default(), Instant::now());
        probe.note(Err("no".into()), 3, now);
        assert_eq!(probe.ready, Some(false), "what was never ready is not ready");
        probe.note(Ok(()), 3, now);
        probe.note(Err("no".into()), 3, now);
        probe.note(Err("no".into()), 3, now);
        assert_eq!(probe.visible(), (Some(true), &None));
        probe.note(Err("gone".into()), 3, now);
        assert_eq!(probe.visible(), (Some(false), &Some("gone".into())));
    }

    #[test]
    fn a_machine_that_is_not_ready_is_asked_eagerly() {
        let readiness = Readiness { exec: vec![], period_seconds: 5, timeout_seconds: 1, failure_threshold: 3 };
        assert_eq!(pause(&readiness, None), EAGER);
        assert_eq!(pause(&readiness, Some(true)), Duration::from_secs(5));
    }
}
