//! What a tenant may say: names and values as text, and what they are on the wire.
//!
//! Whatever is taken here reaches the wire exactly as it was written; everything else is refused. So there is no escaping
//! anywhere: a name has letters, digits, `-` and `_` only, a text is the bytes of its string.

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use serde::{Deserialize, Serialize};

/// Longest name as text, without the last dot (RFC 1035 allows 255 bytes on the wire).
const LONGEST_NAME: usize = 253;
/// Longest text: with it and some others an answer still fits a TCP message.
const LONGEST_TEXT: usize = 2048;
/// A piece of a text on the wire.
const PIECE: usize = 255;

/// A type of records that can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Another name for a name.
    Cname,
    /// Text.
    Txt,
    /// Where a service is.
    Srv,
    /// Where mail goes.
    Mx,
    /// The name of an address.
    Ptr,
}

impl Kind {
    /// As the wire knows it.
    pub fn on_the_wire(self) -> RecordType {
        match self {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Cname => RecordType::CNAME,
            Kind::Txt => RecordType::TXT,
            Kind::Srv => RecordType::SRV,
            Kind::Mx => RecordType::MX,
            Kind::Ptr => RecordType::PTR,
        }
    }
}

impl Kind {
    /// The type that is written so.
    pub fn named(word: &str) -> Option<Kind> {
        use Kind::{A, Aaaa, Cname, Mx, Ptr, Srv, Txt};
        [A, Aaaa, Cname, Txt, Srv, Mx, Ptr].into_iter().find(|kind| kind.to_string() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.on_the_wire(), f)
    }
}

/// The text is no value of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {kind}: write {rule}")]
pub struct InvalidValue {
    value: String,
    kind: String,
    rule: &'static str,
}

/// A value of that type as the wire has it.
pub fn parse(kind: Kind, text: &str) -> Result<RData, InvalidValue> {
    let bad = |rule| InvalidValue { value: text.chars().take(80).collect(), kind: format!("value of {kind}"), rule };
    match kind {
        Kind::A => Ok(RData::A(A(text.parse().map_err(|_| bad("an IPv4 address such as 10.0.0.7"))?))),
        Kind::Aaaa => Ok(RData::AAAA(AAAA(text.parse().map_err(|_| bad("an IPv6 address such as fd00::7"))?))),
        Kind::Cname => target(text).map(|name| RData::CNAME(CNAME(name))).ok_or_else(|| bad("a whole name")),
        Kind::Ptr => target(text).map(|name| RData::PTR(PTR(name))).ok_or_else(|| bad("a whole name")),
        Kind::Txt if text.len() <= LONGEST_TEXT => {
            let pieces = match text.is_empty() {
                true => vec![&[][..]],
                false => text.as_bytes().chunks(PIECE).collect(),
            };
            Ok(RData::TXT(TXT::from_bytes(pieces)))
        }
        Kind::Txt => Err(bad("at most 2048 bytes")),
        Kind::Mx => mx(text).ok_or_else(|| bad("a preference and a whole name, as in 10 mail.shop.internal")),
        Kind::Srv => {
            srv(text).ok_or_else(|| bad("priority, weight, port and a whole name, as in 0 10 8080 web.shop.internal"))
        }
    }
}

fn mx(text: &str) -> Option<RData> {
    let (preference, name) = text.split_once(' ')?;
    Some(RData::MX(MX::new(number(preference)?, target(name)?)))
}

fn srv(text: &str) -> Option<RData> {
    let words: Vec<&str> = text.split(' ').collect();
    let [priority, weight, port, name] = words.as_slice() else { return None };
    Some(RData::SRV(SRV::new(number(priority)?, number(weight)?, number(port)?, target(name)?)))
}

/// Digits only: the standard parser takes a `+`, too.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| u16::from_str(text).ok())?
}

/// The name that a value leads to. Names are whole, so the last dot says nothing new.
fn target(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    is_name(text).then(|| on_the_wire(text))?
}

/// Whether the text is a name: labels of 1 to 63 lower-case letters, digits, `-` and `_`, no `-` at their ends.
pub fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

/// Whether records may have the name: as [`is_name`], or with `*` as its first label.
pub fn is_owner(text: &str) -> bool {
    text.len() <= LONGEST_NAME && is_name(text.strip_prefix("*.").unwrap_or(text))
}

/// The whole name of `name` in the zone `domain`, where `@` is the zone's own; none when that is no name.
pub fn owner(name: &str, domain: &str) -> Option<String> {
    let whole = match name {
        "@" => domain.to_owned(),
        name => format!("{name}.{domain}"),
    };
    is_owner(&whole).then_some(whole)
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
}

/// A name that [`is_owner`] as the wire has it; the empty text is the root.
pub fn on_the_wire(text: &str) -> Option<Name> {
    match text.is_empty() {
        true => Some(Name::root()),
        false => Name::from_labels(text.split('.').map(str::as_bytes)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::Record;
    use proptest::prelude::*;

    use super::*;

    /// What a receiver reads when it is sent this.
    fn sent(name: &str, data: RData) -> Record {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_answer(Record::from_rdata(on_the_wire(name).unwrap(), 5, data));
        Message::from_vec(&message.to_vec().unwrap()).unwrap().answers.remove(0)
    }

    #[test]
    fn every_type_has_its_form() {
        for (kind, text) in [
            (Kind::A, "10.0.0.7"),
            (Kind::Aaaa, "fd00::7"),
            (Kind::Cname, "web.shop.internal"),
            (Kind::Cname, "web.shop.internal."),
            (Kind::Txt, "v=spf1 \"quoted\"; ünï\n\0"),
            (Kind::Txt, ""),
            (Kind::Srv, "0 10 8080 web.shop.internal"),
            (Kind::Mx, "10 mail.shop.internal"),
            (Kind::Ptr, "web.shop.internal"),
        ] {
            assert_eq!(parse(kind, text).unwrap().record_type(), kind.on_the_wire(), "{text}");
        }
        for (kind, text) in [
            (Kind::A, "10.0.0.256"),
            (Kind::A, "fd00::7"),
            (Kind::Aaaa, "10.0.0.7"),
            (Kind::Cname, "Web.shop"),
            (Kind::Cname, "web shop"),
            (Kind::Cname, "a..b"),
            (Kind::Cname, ""),
            (Kind::Cname, "."),
            (Kind::Cname, "-a.b"),
            (Kind::Srv, "0 10 65536 web.shop"),
            (Kind::Srv, "0 10 web.shop"),
            (Kind::Srv, "0  10 80 web.shop"),
            (Kind::Mx, "+10 mail.shop"),
            (Kind::Mx, "mail.shop"),
        ] {
            assert!(parse(kind, text).is_err(), "{kind} {text:?}");
        }
        let error = parse(Kind::A, "x").unwrap_err().to_string();
        assert_eq!(error, "\"x\" is no value of A: write an IPv4 address such as 10.0.0.7");
    }

    proptest! {
        #[test]
        fn any_text_reaches_the_wire_exactly_or_is_refused(text in "(?s).{0,600}|[a-z]{2000,2100}") {
            match parse(Kind::Txt, &text) {
                Ok(data) => {
                    let RData::TXT(txt) = sent("t.internal", data).data else { panic!("another type") };
                    let bytes: Vec<u8> = txt.txt_data.iter().flat_map(|piece| piece.iter().copied()).collect();
                    prop_assert_eq!(bytes, text.as_bytes());
                }
                Err(_) => prop_assert!(text.len() > LONGEST_TEXT),
            }
        }

        #[test]
        fn any_name_reaches_the_wire_exactly_or_is_refused(
            text in "(?s).{0,80}|[a-z0-9_.*\\\\ -]{0,80}|([a-z0-9_-]{1,64}\\.){0,6}[a-z0-9]{1,63}",
        ) {
            if is_owner(&text) {
                let record = sent(&text, RData::A(A::new(10, 0, 0, 1)));
                prop_assert_eq!(labels(&record.name), text.split('.').map(str::as_bytes).collect::<Vec<_>>());
            }
            if let Ok(data) = parse(Kind::Cname, &text) {
                let RData::CNAME(name) = sent("t.internal", data).data else { panic!("another type") };
                let said = text.strip_suffix('.').unwrap_or(&text);
                prop_assert_eq!(labels(&name.0), said.split('.').map(str::as_bytes).collect::<Vec<_>>());
            }
        }
    }

    fn labels(name: &Name) -> Vec<&[u8]> {
        name.iter().collect()
    }
}
