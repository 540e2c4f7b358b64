//! From a question to an answer: pure.
//!
//! A CNAME is followed as long as it leads to names of the view, and then, where that is allowed, to others. What is not
//! there is said with the zone's SOA, whose last field says how long that may be remembered (RFC 2308).

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::view::View;

/// Largest answer by UDP that needs no fragments anywhere, and the largest question that is read (DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;
/// What a client without EDNS takes by UDP (RFC 1035).
const CLASSIC_PAYLOAD: u16 = 512;
/// CNAMEs that are followed: more is a loop, or as good as one.
const LONGEST_CHAIN: usize = 8;

/// What becomes of a question.
#[derive(Debug)]
pub enum Reply {
    /// This is the answer.
    Answer(Message),
    /// Others have to be asked this; what they say comes after what is said here already.
    Ask(Message, Query),
    /// It deserves none.
    Nothing,
}

/// What to say to these bytes.
pub fn answer(view: &View, bytes: &[u8]) -> Reply {
    let Ok(question) = Message::from_vec(bytes) else { return malformed(bytes) };
    if question.metadata.message_type == MessageType::Response {
        return Reply::Nothing;
    }
    let mut reply = empty_reply(view, &question);
    let code = match (question.metadata.op_code, question.queries.as_slice()) {
        _ if question.version() > 0 => ResponseCode::BADVERS,
        (OpCode::Query, [query]) => match (query.query_class(), query.query_type()) {
            (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => ResponseCode::Refused,
            (DNSClass::IN, _) => return resolve(view, reply, query),
            _ => ResponseCode::Refused,
        },
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    reply.metadata.response_code = code;
    Reply::Answer(reply)
}

/// Whoever asks what cannot be read is told so, if there is an id to say it to.
fn malformed(bytes: &[u8]) -> Reply {
    match bytes {
        [a, b, flags, _, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
            Reply::Answer(Message::error_msg(u16::from_be_bytes([*a, *b]), OpCode::Query, ResponseCode::FormErr))
        }
        _ => Reply::Nothing,
    }
}

fn empty_reply(view: &View, question: &Message) -> Message {
    let mut reply = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&question.metadata);
    reply.metadata.recursion_available = view.forward;
    reply.add_queries(question.queries.iter().cloned());
    if let Some(edns) = &question.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(edns.flags().dnssec_ok);
        reply.set_edns(ours);
    }
    reply
}

fn resolve(view: &View, mut reply: Message, query: &Query) -> Reply {
    let mut name = query.name().to_lowercase();
    for _ in 0..LONGEST_CHAIN {
        let text = text_of(&name);
        let Some((domain, soa)) = view.zone_of(&text) else { return outside(view, reply, name, query) };
        reply.metadata.authoritative = true;
        let Some(node) = view.node(&text, domain) else {
            reply.metadata.response_code = ResponseCode::NXDomain;
            return negative(reply, soa);
        };
        let wanted = match query.query_type() {
            // One set is enough of an answer, and makes no small question a large answer (RFC 8482).
            RecordType::ANY => node.values().next(),
            kind => node.get(&kind),
        };
        if let Some(records) = wanted {
            reply.add_answers(records.iter().map(|record| named(record, &name)));
            return Reply::Answer(reply);
        }
        let Some(alias) = node.get(&RecordType::CNAME).and_then(|records| records.first()) else {
            return negative(reply, soa);
        };
        reply.add_answer(named(alias, &name));
        let RData::CNAME(target) = &alias.data else { return Reply::Answer(reply) };
        name = target.0.clone();
    }
    reply.metadata.response_code = ResponseCode::ServFail;
    Reply::Answer(reply)
}

/// The name as views have it. What views cannot have (an escaped byte, say) is in none.
fn text_of(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

/// A record under the name that was asked: where an asterisk stands for it they differ.
fn named(record: &Record, name: &Name) -> Record {
    let mut record = record.clone();
    record.name = name.clone();
    record
}

/// The SOA's own lifetime is the time for which it may be remembered that something is not there.
fn negative(mut reply: Message, soa: &Record) -> Reply {
    let mut soa = soa.clone();
    if let RData::SOA(data) = &soa.data {
        soa.ttl = soa.ttl.min(data.minimum);
    }
    reply.add_authority(soa);
    Reply::Answer(reply)
}

fn outside(view: &View, mut reply: Message, name: Name, query: &Query) -> Reply {
    if view.forward && !is_private(&text_of(&name)) {
        return Reply::Ask(reply, Query::query(name, query.query_type()));
    }
    // After a CNAME that leads out of the view, what is known is the answer.
    if reply.answers.is_empty() {
        reply.metadata.response_code = ResponseCode::Refused;
    }
    Reply::Answer(reply)
}

/// Names of private addresses are nobody else's business, neither the tenant's with us nor ours with the tenant.
fn is_private(name: &str) -> bool {
    let labels: Vec<&str> = name.rsplit('.').collect();
    match labels.as_slice() {
        ["arpa", "in-addr", first, rest @ ..] => {
            let second = rest.first().and_then(|label| label.parse::<u8>().ok());
            match (*first, second) {
                ("0" | "10" | "127", _) => true,
                ("100", Some(second)) => (64..128).contains(&second),
                ("169", Some(254)) | ("192", Some(168)) => true,
                ("172", Some(second)) => (16..32).contains(&second),
                _ => false,
            }
        }
        ["arpa", "ip6", "f", second, ..] => ["c", "d", "e"].contains(second),
        ["internal" | "local" | "localhost", ..] => true,
        _ => false,
    }
}

/// The answer as bytes. One that is too long for UDP is sent empty with the mark that tells its reader to ask by TCP.
pub fn encode(message: &Message, payload: Option<u16>) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    match payload {
        Some(payload) if bytes.len() > usize::from(payload) => {
            let mut short = message.truncate();
            short.answers.clear();
            short.authorities.clear();
            short.additionals.clear();
            short.metadata.truncation = true;
            short.to_vec().ok()
        }
        _ => Some(bytes),
    }
}

/// What whoever asks takes by UDP.
pub fn payload_of(bytes: &[u8]) -> u16 {
    let asked = Message::from_vec(bytes).ok().and_then(|question| question.edns.map(|edns| edns.max_payload()));
    asked.map_or(CLASSIC_PAYLOAD, |payload| payload.clamp(CLASSIC_PAYLOAD, UDP_PAYLOAD))
}
