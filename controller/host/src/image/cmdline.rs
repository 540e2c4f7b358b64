//! The kernel command line that our images are booted with.
//!
//! Under emulation the kernel's own defences and self-tests are the better half of the boot, and defend nothing: the
//! attacks they are against need the real processor. The figures are in decision 0004.

use super::error::{Error, Result};

/// What every guest gets.
const ALWAYS: &str = "root=/dev/vda console=ttyS0 quiet loglevel=4 panic=10 net.ifnames=0";

/// What a guest without hardware virtualisation gets in addition.
const EMULATED: &str = "mitigations=off nokaslr init_on_alloc=0 lsm=capability audit=0 tsc=reliable no_timer_check \
                        nowatchdog random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests 8250.nr_uarts=1";

/// Longest command line that Linux takes on x86.
const MOST_BYTES: usize = 2047;

/// Composes the command line of a guest with this host name; `extra` comes last and therefore wins.
pub fn kernel_command_line(hostname: &str, emulated: bool, extra: &str) -> Result<String> {
    let plain = hostname.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if hostname.is_empty() || hostname.len() > 64 || !plain {
        return Err(Error::recipe("hostname", format!("{hostname:?} is no host name")));
    }
    let mut line = format!("{ALWAYS} systemd.hostname={hostname}");
    for more in [if emulated { EMULATED } else { "" }, extra.trim()] {
        if !more.is_empty() {
            line.push(' ');
            line.push_str(more);
        }
    }
    match line.len() <= MOST_BYTES && !line.contains(['\n', '\0']) {
        true => Ok(line),
        false => Err(Error::recipe("kernelArguments", "they are longer than 2047 bytes or more than one line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_arguments_come_last() {
        let line = kernel_command_line("node01", true, " mitigations=auto ").unwrap();
        assert!(line.contains(" systemd.hostname=node01 "), "{line}");
        assert!(line.ends_with(" mitigations=auto"), "{line}");
        assert!(!line.contains("  "), "{line}");
        assert!(!kernel_command_line("a", false, "").unwrap().contains("mitigations"));
    }

    #[test]
    fn a_host_name_cannot_smuggle_an_argument() {
        for bad in ["", "a init=/bin/sh", "a\nb", "a=b"] {
            assert!(kernel_command_line(bad, false, "").is_err(), "{bad:?}");
        }
    }
}
