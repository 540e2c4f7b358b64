//! Many links at once: one socket, and questions or orders sent many together.
//!
//! A thousand taps asked for one after the other are a thousand round trips through a task, each with an answer of two kilobytes that
//! nearly nobody reads. Here a datagram carries many messages, the kernel leaves the counters out of its answers, and of an answer only
//! that is read which a [`Link`] holds. Planning is the same as for one link ([`super::plan`]), and what was written is looked at again.
//!
//! Calls block, though never on anything but the kernel: they belong on a thread of their own, or on one made for that.

use std::collections::HashMap;
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::answer::{link, said};
use super::apply::set_message;
use super::plan::{self, Master, Step, Wanted};
use super::{Changes, Error, Link, LinkName, Port, ROUNDS, Result};

/// Messages of one datagram: their answers must fit into the socket's buffer all at once (208 KiB, and up to 5 for a link).
const TOGETHER: usize = 32;
/// From so many links on, listing all is less than asking for each.
const LIST_FROM: usize = 64;
/// Looks at all links, when something changed while the kernel told them.
const LISTINGS: usize = 3;
/// `nlmsgerr`, `NLMSG_DONE`, `RTM_NEWLINK` (linux/netlink.h, linux/rtnetlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
/// What the kernel says to one message.
enum Answer {
    Link(Link),
    Said(io::Result<()>),
}

/// What one datagram holds.
#[derive(Default)]
struct Heard {
    /// Answers by the numbers of their messages.
    answers: Vec<(u32, Answer)>,
    /// Whether something changed while they were made.
    interrupted: bool,
    /// Whether a list ends with it.
    done: bool,
}

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Line {
    socket: Socket,
    #[cfg(test)]
    sent: std::sync::atomic::AtomicUsize,
}

impl Line {
    pub(crate) fn open() -> io::Result<Line> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An error need not repeat what it is about.
        socket.set_cap_ack(true)?;
        Ok(Line {
            socket,
            #[cfg(test)]
            sent: Default::default(),
        })
    }

    /// Makes links that exist be as wanted and up, each outcome in its place. Addresses are not looked at: none may be asked for.
    pub(crate) fn ensure_ports(&self, ports: &[Port]) -> Result<Vec<Result<Changes>>> {
        let mut outcomes: Vec<Option<Result<Changes>>> = ports.iter().map(|_| None).collect();
        let mut changes: Vec<Changes> = ports.iter().map(|_| Changes::default()).collect();
        for round in 0..=ROUNDS {
            let open: Vec<usize> = (0..ports.len()).filter(|place| outcomes[*place].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let found = self.look(ports, &open, round == 0)?;
            let mut orders = Vec::new();
            for place in open {
                let port = &ports[place];
                match steps(port, &found) {
                    Err(error) => outcomes[place] = Some(Err(error)),
                    Ok(steps) if steps.is_empty() => outcomes[place] = Some(Ok(std::mem::take(&mut changes[place]))),
                    Ok(steps) if round == ROUNDS => {
                        let (name, steps) = (port.name.to_string(), format!("{steps:?}"));
                        outcomes[place] = Some(Err(Error::NotConverging { name, steps }));
                    }
                    Ok(steps) => orders.extend(order(place, port, &found, steps)),
                }
            }
            for (place, step, said) in self.carry_out(orders)? {
                let name = &ports[place].name;
                match said {
                    Ok(()) => changes[place].extend(step.changes(name)),
                    Err(source) => {
                        let action = format!("set {step:?} of");
                        outcomes[place] = Some(Err(Error::Link { action, name: name.to_string(), source }));
                    }
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// The links of those ports, and their bridges. What a listing did not show is asked for again by its name before it counts as gone.
    fn look(&self, ports: &[Port], places: &[usize], may_list: bool) -> Result<HashMap<String, Link>> {
        let mut found = HashMap::new();
        if may_list && places.len() >= LIST_FROM {
            found.extend(self.list()?.into_iter().map(|link| (link.name.clone(), link)));
        }
        let of = |place: &usize| std::iter::once(&ports[*place].name).chain(&ports[*place].bridge);
        let mut missing: Vec<&LinkName> =
            places.iter().flat_map(of).filter(|name| !found.contains_key(name.as_str())).collect();
        missing.sort_unstable();
        missing.dedup();
        let questions = missing.iter().map(|name| RouteNetlinkMessage::GetLink(by_name(name.as_str())));
        for (name, answer) in missing.iter().zip(self.ask(questions.collect(), 0).map_err(failed("look up"))?) {
            match answer {
                Some(Answer::Link(link)) => drop(found.insert(link.name.clone(), link)),
                Some(Answer::Said(Err(source))) if source.raw_os_error() != Some(NO_DEVICE) => {
                    return Err(Error::Link { action: "look up".to_owned(), name: name.to_string(), source });
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// All links, without their addresses.
    pub(crate) fn list(&self) -> Result<Vec<Link>> {
        let mut listed = Vec::new();
        for _ in 0..LISTINGS {
            let mut all = LinkMessage::default();
            all.attributes.push(without_counters());
            let (links, whole) = self.dump(RouteNetlinkMessage::GetLink(all)).map_err(failed("list"))?;
            listed = links;
            if whole {
                break;
            }
        }
        Ok(listed)
    }

    /// Gives orders; what became of each.
    fn carry_out(&self, orders: Vec<(usize, Step, LinkMessage)>) -> Result<Vec<(usize, Step, io::Result<()>)>> {
        let (about, messages): (Vec<_>, Vec<_>) = orders
            .into_iter()
            .map(|(place, step, message)| ((place, step), RouteNetlinkMessage::SetLink(message)))
            .unzip();
        let answers = self.ask(messages, NLM_F_ACK).map_err(failed("set"))?;
        let said = |answer| match answer {
            Some(Answer::Said(said)) => said,
            _ => Err(io::Error::other("the kernel did not say what became of it")),
        };
        Ok(about.into_iter().zip(answers).map(|((place, step), answer)| (place, step, said(answer))).collect())
    }

    /// Sends messages, many together, and reads what is answered to each, by its place.
    fn ask(&self, messages: Vec<RouteNetlinkMessage>, flags: u16) -> io::Result<Vec<Option<Answer>>> {
        let mut answers: Vec<Option<Answer>> = messages.iter().map(|_| None).collect();
        let mut numbered = (0_u32..).zip(messages).peekable();
        while numbered.peek().is_some() {
            let (mut datagram, mut waiting) = (Vec::new(), 0);
            for (number, message) in numbered.by_ref().take(TOGETHER) {
                append(&mut datagram, number, NLM_F_REQUEST | flags, message);
                waiting += 1;
            }
            self.send(&datagram)?;
            while waiting > 0 {
                for (number, answer) in self.receive()?.answers {
                    if let Some(place) = answers.get_mut(number as usize).filter(|place| place.is_none()) {
                        *place = Some(answer);
                        waiting -= 1;
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Everything the kernel lists, and whether nothing changed meanwhile.
    fn dump(&self, message: RouteNetlinkMessage) -> io::Result<(Vec<Link>, bool)> {
        let mut datagram = Vec::new();
        append(&mut datagram, 0, NLM_F_REQUEST | NLM_F_DUMP, message);
        self.send(&datagram)?;
        let (mut links, mut whole) = (Vec::new(), true);
        loop {
            let heard = self.receive()?;
            whole &= !heard.interrupted;
            for (_, answer) in heard.answers {
                match answer {
                    Answer::Link(link) => links.push(link),
                    Answer::Said(said) => said?,
                }
            }
            if heard.done {
                return Ok((links, whole));
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        self.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.socket.send(datagram, 0)
    }

    /// One datagram.
    fn receive(&self) -> io::Result<Heard> {
        let (datagram, _) = self.socket.recv_from_full()?;
        let mut heard = Heard::default();
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
            heard.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NEW_LINK => heard
                    .answers
                    .extend(link(message.payload()).map(|link| (message.sequence_number(), Answer::Link(link)))),
                ERROR => heard.answers.push((message.sequence_number(), Answer::Said(said(message.payload())))),
                DONE => heard.done = true,
                _ => {}
            }
            // Messages are aligned to four bytes (netlink(7)).
            let length = (message.length() as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(heard)
    }
}

/// `ENODEV`.
const NO_DEVICE: i32 = 19;

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Link { action: action.to_owned(), name: "*".to_owned(), source }
}

fn steps(port: &Port, found: &HashMap<String, Link>) -> Result<Vec<Step>> {
    plan::plan(&wanted(port, found)?, found.get(port.name.as_str()))
}

fn wanted(port: &Port, found: &HashMap<String, Link>) -> Result<Wanted> {
    let master = match &port.bridge {
        None => Master::None,
        Some(bridge) => match found.get(bridge.as_str()) {
            Some(link) => Master::Index(link.index),
            None => return Err(Error::NotFound { name: bridge.to_string() }),
        },
    };
    Ok(Wanted { addresses: None, ..port.wanted(master) })
}

/// The messages of a port's steps. Of links that exist and whose addresses nobody asked for there is only one sort.
fn order(
    place: usize,
    port: &Port,
    found: &HashMap<String, Link>,
    steps: Vec<Step>,
) -> Vec<(usize, Step, LinkMessage)> {
    let index = found.get(port.name.as_str()).map(|link| link.index);
    let message = |step: &Step| match (step, index) {
        (Step::Set(properties), Some(index)) => Some(set_message(index, properties)),
        _ => None,
    };
    steps.into_iter().filter_map(|step| message(&step).map(|message| (place, step, message))).collect()
}

fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(without_counters());
    message
}

fn without_counters() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn append(datagram: &mut Vec<u8>, number: u32, flags: u16, message: RouteNetlinkMessage) {
    let mut message = NetlinkMessage::from(message);
    message.header.sequence_number = number;
    message.header.flags = flags;
    message.finalize();
    let begin = datagram.len();
    datagram.resize(begin + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut datagram[begin..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hundred_links_are_looked_at_and_set_by_a_few_datagrams() {
        use crate::netns::{Namespaces, run_in};
        let name = format!("test-bulk-{}", uuid::Uuid::new_v4().simple());
        let (namespace, _) = Namespaces::default().ensure(&name).await.expect("this test needs root");
        let links = super::super::Links::open(&namespace).await.unwrap();
        let bridge: LinkName = "br-1".parse().unwrap();
        let wanted =
            super::super::Bridge { name: bridge.clone(), addresses: Vec::new(), mtu: 1450, alias: "network".into() };
        links.ensure_bridge(&wanted).await.unwrap();
        let spec = |number: usize| crate::tap::Spec {
            name: format!("tap-{number}").parse().unwrap(),
            owner_uid: 300_001,
            bridge: bridge.clone(),
            mtu: 1450,
            alias: format!("port-{number}"),
        };
        let taps = crate::tap::Tap::create_all(&namespace, (0..100).map(spec).collect()).await.unwrap();
        assert!(taps.iter().all(Result::is_ok), "{taps:?}");
        let port = |number: usize| Port {
            name: format!("tap-{number}").parse().unwrap(),
            bridge: Some(bridge.clone()),
            // One is not there.
            mtu: 1400,
            alias: format!("port-{number}"),
            addresses: None,
            mac: None,
        };
        let ports: Vec<Port> = (0..101).map(port).collect();
        let (first, second) = run_in(&namespace, || {
            let line = Line::open().unwrap();
            let changed = line.ensure_ports(&ports).unwrap();
            assert!(changed[..100].iter().all(|one| one.as_ref().unwrap().iter().count() == 1), "{changed:?}");
            assert!(matches!(changed[100], Err(Error::NotFound { .. })), "{changed:?}");
            let sent = || line.sent.load(std::sync::atomic::Ordering::Relaxed);
            let first = sent();
            let again = line.ensure_ports(&ports[..100]).unwrap();
            assert!(again.iter().all(|one| one.as_ref().unwrap().is_empty()), "{again:?}");
            (first, sent() - first)
        })
        .unwrap();
        // A listing and the question for the one it does not show; a hundred orders; a hundred looks at what came of them.
        assert!(first <= 2 + 2 * 101_usize.div_ceil(TOGETHER) + LISTINGS, "{first} datagrams");
        assert!(second <= LISTINGS, "{second} datagrams");
        Namespaces::default().delete(&name).await.unwrap();
    }
}
