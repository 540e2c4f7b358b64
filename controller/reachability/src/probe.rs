//! What a guest must run to find out whom it reaches, and what its answer proves.
//!
//! Nothing has to listen: a guest that nobody listens in says so itself (TCP's reset), and that proves the way as well as a
//! connection does. What a rule drops is never answered. So TCP and ICMP echo can be tried from the asking guest alone, by the
//! busybox that each guest has. UDP cannot: silence is an answer of its own there.
//!
//! Over IPv6 a card may have several addresses, and says what it says under the one that is most like the other side's (RFC 6724). Where
//! that is not the one of which the verdict speaks, nothing is tried.
//!
//! A try between two networks goes to an address, and the other network's address may be somebody's in one's own. Such a try
//! would prove nothing and is not made.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crds::Subnets;
use traffic::Conversation;

use crate::endpoint::Endpoint;
use crate::matrix::Cell;
use crate::verdict::Verdict;
use crate::world::World;

/// Tries that one command makes at the same time: each is two processes in a guest that may be small.
pub const AT_ONCE: usize = 16;

/// One try.
#[derive(Clone, Debug)]
pub struct Try<'a> {
    /// Who tries whom, what about, and what must come of it.
    pub cell: Cell<'a>,
    /// Machine that tries.
    pub machine: &'a str,
    /// Address that it tries.
    pub address: IpAddr,
}

/// What is to be tried, and what cannot be.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// The tries.
    pub tries: Vec<Try<'a>>,
    /// How many questions cannot be tried, by the reason.
    pub left_out: BTreeMap<String, usize>,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The other side answered.
    Yes,
    /// It did not, and what the program said.
    No(String),
    /// The program was not able to try.
    Unknown(String),
}

impl World {
    /// What can be tried of these questions.
    #[must_use]
    pub fn plan<'a>(&'a self, cells: impl IntoIterator<Item = Cell<'a>>) -> Plan<'a> {
        let mut plan = Plan::default();
        for cell in cells {
            match self.possible(&cell) {
                Ok((machine, address)) => plan.tries.push(Try { cell, machine, address }),
                Err(why) => *plan.left_out.entry(why).or_default() += 1,
            }
        }
        plan
    }

    fn possible<'a>(&'a self, cell: &Cell<'a>) -> Result<(&'a str, IpAddr), String> {
        let (from, to) = (cell.from, cell.to);
        if !is_tried(cell.what) {
            return Err(format!("{} is not tried, only tcp and echoes of icmp are", cell.question.label));
        }
        if let Verdict::Absent { port, why } = &cell.verdict {
            return Err(format!("Port {port} is not there: {why}"));
        }
        for one in [from, to] {
            match &one.machine {
                None => return Err(format!("no VirtualMachine uses Port {}", one.name)),
                Some(machine) if !one.alive => return Err(format!("VirtualMachine {machine} is not ready")),
                Some(_) => {}
            }
        }
        if from.shares_machine_with(to) {
            return Err("two Ports of one VirtualMachine".to_owned());
        }
        let (Some(machine), Some(address)) = (&from.machine, to.address_of(cell.what.family())) else {
            return Err(format!("Port {} has no address", to.name));
        };
        if cell.verdict == Verdict::AnotherNetwork && self.is_ambiguous(from, to, address) {
            return Err("the other network's address means somebody else to the machine that would try".to_owned());
        }
        if let IpAddr::V6(address) = address
            && speaks_otherwise(from, address)
        {
            return Err("the card would say it under another of its IPv6 addresses".to_owned());
        }
        Ok((machine, address))
    }

    /// Whether an address on another network is in a range of one that the machine is on itself, or leads there directly.
    fn is_ambiguous(&self, from: &Endpoint, to: &Endpoint, address: IpAddr) -> bool {
        let cards = self.endpoints().iter().filter(|card| card.shares_machine_with(from));
        let mut cards = cards.chain([from]);
        let around = |all: &Subnets| match address {
            IpAddr::V4(address) => all.around(address).is_some(),
            IpAddr::V6(address) => all.around_six(address).is_some(),
        };
        let leads_there = |card: &Endpoint| card.subnets.as_ref().is_none_or(around);
        cards.any(|card| card.shares_network_with(to) || leads_there(card))
    }
}

/// The tries of each machine, which makes them in pieces of [`AT_ONCE`].
#[must_use]
pub fn by_machine<'p, 'a>(tries: &'p [Try<'a>]) -> Vec<&'p [Try<'a>]> {
    let same = |one: &Try<'_>, next: &Try<'_>| {
        (&one.cell.from.namespace, one.machine) == (&next.cell.from.namespace, next.machine)
    };
    tries.chunk_by(same).collect()
}

/// Whether a card speaks to the address under another one than its Port's own: what it made for itself in another range is more like it.
fn speaks_otherwise(from: &Endpoint, to: Ipv6Addr) -> bool {
    let (Some(subnets), Some(own), Some(mac)) = (&from.subnets, from.six, from.mac) else { return false };
    let alike = |one: Ipv6Addr| (one.to_bits() ^ to.to_bits()).leading_zeros();
    subnets.made_beside(from.six, mac).any(|made| alike(made) >= alike(own))
}

/// Whether a guest can find it out alone.
fn is_tried(what: Conversation) -> bool {
    matches!(what, Conversation::Tcp(_) | Conversation::Tcp6(_) | Conversation::PING | Conversation::PING6)
}

/// How a try is written among a command's arguments, and before its end in the output.
fn word(one: &Try<'_>) -> String {
    match one.cell.what {
        Conversation::Tcp(port) | Conversation::Tcp6(port) => format!("tcp/{}/{port}", one.address),
        _ => format!("icmp/{}/0", one.address),
    }
}

/// Tries every argument at the same time and writes a line `TRY CODE COMPLAINT` about each.
const SCRIPT: &str = r#"seconds=$1; shift
for try; do (
  IFS=/; set -- $try; unset IFS
  case $1 in
    tcp) said=$(/bin/busybox timeout "$((seconds + 5))" /bin/busybox nc -w "$seconds" "$2" "$3" -e /bin/true 2>&1 >/dev/null); code=$? ;;
    *) said=$(/bin/busybox ping -q -c 1 -W "$seconds" "$2" 2>&1 >/dev/null); code=$? ;;
  esac
  printf '%s %s %.120s\n' "$try" "$code" "$(echo "$said" | /bin/busybox tail -n 1)"
) & done; wait"#;

/// The command that makes these tries from one machine, each of which may take so many seconds. Addresses and ports are
/// arguments: no text of a user is read as script.
#[must_use]
pub fn command(tries: &[Try<'_>], seconds: u32) -> Vec<String> {
    let words = ["/bin/busybox", "sh", "-c", SCRIPT, "reach", &seconds.to_string()].map(str::to_owned);
    words.into_iter().chain(tries.iter().map(word)).collect()
}

/// Reads the end of one try out of what the command printed.
#[must_use]
pub fn end(one: &Try<'_>, printed: &str) -> End {
    let word = word(one);
    let line = printed.lines().find_map(|line| line.strip_prefix(&word)?.strip_prefix(' '));
    let Some((code, said)) = line.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) else {
        return End::Unknown("the command left no result".to_owned());
    };
    match judge(code, said) {
        // Nobody listens, says the guest itself: the question and its answer came through.
        End::No(said)
            if matches!(one.cell.what, Conversation::Tcp(_) | Conversation::Tcp6(_)) && said.contains("refused") =>
        {
            End::Yes
        }
        end => end,
    }
}

/// What the exit code of busybox's `nc`, `ping` or `wget` and its last words say. 1 means "no connection" and also "wrong
/// usage", so the words are read too: what must *not* get through may never pass because the program was not able to try.
#[must_use]
pub fn judge(code: &str, said: &str) -> End {
    let last = if said.is_empty() { "no answer".to_owned() } else { said.to_owned() };
    let unable = ["Usage:", "invalid option", "applet not found", "ermission denied", "can't fork"];
    match code.parse() {
        Ok(0) => End::Yes,
        _ if unable.iter().any(|words| said.contains(words)) => End::Unknown(last),
        // 124 and 143 are `timeout`'s.
        Ok(1 | 124 | 143) => End::No(last),
        Ok(code) => End::Unknown(format!("exit code {code}: {last}")),
        Err(_) => End::Unknown("no exit code".to_owned()),
    }
}

/// What the tries prove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Tries that ended as derived.
    pub agreed: usize,
    /// One sentence for each that did not.
    pub mismatches: Vec<String>,
    /// One sentence for each that could not be made.
    pub unknown: Vec<String>,
}

impl World {
    /// Compares what came of a try with what was derived.
    pub fn compare(&self, one: &Try<'_>, end: &End, findings: &mut Findings) {
        let Cell { from, to, what, verdict, .. } = &one.cell;
        let pair = format!("{} → {} {what}", from.name, to.name);
        let open = verdict.is_open();
        match end {
            End::Unknown(why) => findings.unknown.push(format!("{pair}: {why}")),
            End::Yes if open => findings.agreed += 1,
            End::No(_) if !open => findings.agreed += 1,
            End::Yes => {
                let way = self.path(from, to, *what);
                let hop = way.last().map_or_else(String::new, |hop| format!("; it should have stopped at the {hop}"));
                findings.mismatches.push(format!("{pair} was answered, but is closed by {verdict}{hop}"));
            }
            End::No(said) => {
                let hop = self.suspect(from, to, *what);
                let hop = hop.map_or_else(|| "unknown".to_owned(), |hop| format!("perhaps the {hop}"));
                findings
                    .mismatches
                    .push(format!("{pair} got no answer ({said}), but is open by {verdict}; hop: {hop}"));
            }
        }
    }
}
