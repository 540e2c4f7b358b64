//! What is said to which question, without a socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use dns::answer::{self, Reply};
use dns::{Kind, Part, Record, View, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

fn record(name: &str, kind: Kind, values: &[&str]) -> Record {
    Record { name: name.into(), kind, ttl: 60, values: values.iter().map(|&value| value.to_owned()).collect() }
}

fn zone(domain: &str, negative_ttl: u32, records: Vec<Record>) -> Zone {
    Zone { domain: domain.into(), negative_ttl, records }
}

fn parts(forward: bool) -> [Part; 2] {
    let shop = zone(
        "shop.internal",
        7,
        vec![
            record("shop.internal", Kind::Mx, &["10 mail.shop.internal"]),
            record("web.shop.internal", Kind::A, &["10.0.0.1", "10.0.0.2"]),
            record("web.shop.internal", Kind::Aaaa, &["fd00::1"]),
            record("www.shop.internal", Kind::Cname, &["web.shop.internal"]),
            record("far.shop.internal", Kind::Cname, &["www.shop.internal"]),
            record("cross.shop.internal", Kind::Cname, &["box.blue.internal"]),
            record("out.shop.internal", Kind::Cname, &["example.org"]),
            record("gone.shop.internal", Kind::Cname, &["nothing.shop.internal"]),
            record("a.loop.shop.internal", Kind::Cname, &["b.loop.shop.internal"]),
            record("b.loop.shop.internal", Kind::Cname, &["a.loop.shop.internal"]),
            record("_http._tcp.shop.internal", Kind::Srv, &["0 10 8080 web.shop.internal"]),
            record("text.shop.internal", Kind::Txt, &["v=spf1 -all", "ünï"]),
            record("*.wild.shop.internal", Kind::A, &["10.0.0.9"]),
            record("own.wild.shop.internal", Kind::Txt, &["mine"]),
        ],
    );
    let many: Vec<String> = (0..200).map(|at| format!("10.1.0.{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let big = zone("big.internal", 7, vec![record("all.big.internal", Kind::A, &many)]);
    let tenant = Part { server: None, forward: false, zones: vec![shop, big] };
    let network = Part {
        server: Some([10, 0, 0, 254].into()),
        forward,
        zones: vec![
            zone("blue.internal", 5, vec![record("box.blue.internal", Kind::A, &["10.0.0.7"])]),
            zone("", 5, vec![record("box", Kind::A, &["10.0.0.7"])]),
            // What the tenant says of a name is all of it.
            zone("shop.internal", 5, vec![record("web.shop.internal", Kind::A, &["10.0.0.66"])]),
            zone("0.0.10.in-addr.arpa", 5, vec![record("7.0.0.10.in-addr.arpa", Kind::Ptr, &["box.blue.internal"])]),
        ],
    };
    [tenant, network]
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask_of(view: &View, message: &Message) -> Message {
    match answer::answer(view, &message.to_vec().unwrap()) {
        Reply::Answer(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Code, answers as text, and the lifetime of the SOA if there is one.
fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>, Option<u32>) {
    let reply = ask_of(&View::compile(&parts(false), 1), &question(name, kind));
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    let answers = reply.answers.iter().map(|one| format!("{} {}", one.name, one.data)).collect();
    (reply.metadata.response_code, answers, reply.authorities.first().map(|soa| soa.ttl))
}

#[test]
fn every_type_is_answered_whatever_the_case_of_the_letters() {
    let found = |name, kind| {
        let (code, answers, soa) = ask(name, kind);
        assert_eq!((code, soa), (ResponseCode::NoError, None), "{name}");
        answers
    };
    assert_eq!(found("WEB.shop.Internal.", RecordType::A).len(), 2);
    assert_eq!(found("web.shop.internal.", RecordType::AAAA), ["web.shop.internal. fd00::1"]);
    assert_eq!(found("shop.internal.", RecordType::MX), ["shop.internal. 10 mail.shop.internal."]);
    let srv = found("_http._tcp.shop.internal.", RecordType::SRV);
    assert_eq!(srv, ["_http._tcp.shop.internal. 0 10 8080 web.shop.internal."]);
    assert_eq!(found("text.shop.internal.", RecordType::TXT).len(), 2);
    assert_eq!(found("7.0.0.10.in-addr.arpa.", RecordType::PTR), ["7.0.0.10.in-addr.arpa. box.blue.internal."]);
    assert_eq!(found("box.", RecordType::A), ["box. 10.0.0.7"]);
    assert_eq!(found("blue.internal.", RecordType::NS), ["blue.internal. ns.blue.internal."]);
    assert_eq!(found("ns.blue.internal.", RecordType::A), ["ns.blue.internal. 10.0.0.254"]);
    assert_eq!(found("shop.internal.", RecordType::SOA).len(), 1);
    assert_eq!(found("any.wild.shop.internal.", RecordType::A), ["any.wild.shop.internal. 10.0.0.9"]);
    assert_eq!(found("a.b.wild.shop.internal.", RecordType::A), ["a.b.wild.shop.internal. 10.0.0.9"]);
}

#[test]
fn a_chain_of_aliases_is_followed_through_the_view() {
    let (_, answers, _) = ask("far.shop.internal.", RecordType::AAAA);
    assert_eq!(
        answers,
        [
            "far.shop.internal. www.shop.internal.",
            "www.shop.internal. web.shop.internal.",
            "web.shop.internal. fd00::1"
        ]
    );
    assert_eq!(ask("cross.shop.internal.", RecordType::A).1[1], "box.blue.internal. 10.0.0.7");
    assert_eq!(ask("www.shop.internal.", RecordType::CNAME).1.len(), 1);
    assert_eq!(ask("out.shop.internal.", RecordType::A).1, ["out.shop.internal. example.org."]);
    assert_eq!(ask("a.loop.shop.internal.", RecordType::A).0, ResponseCode::ServFail);
    let (code, answers, soa) = ask("gone.shop.internal.", RecordType::A);
    assert_eq!((code, answers.len(), soa), (ResponseCode::NXDomain, 1, Some(7)), "what is not there is the target");
}

#[test]
fn what_is_not_there_is_said_with_the_time_for_which_it_may_be_remembered() {
    let nothing = |name, kind, code, ttl| assert_eq!(ask(name, kind), (code, vec![], Some(ttl)), "{name}");
    nothing("no.shop.internal.", RecordType::A, ResponseCode::NXDomain, 7);
    nothing("web.shop.internal.", RecordType::TXT, ResponseCode::NoError, 7);
    nothing("_tcp.shop.internal.", RecordType::A, ResponseCode::NoError, 7);
    nothing("no.blue.internal.", RecordType::A, ResponseCode::NXDomain, 5);
    nothing("nobody.", RecordType::A, ResponseCode::NXDomain, 5);
    nothing("box.", RecordType::AAAA, ResponseCode::NoError, 5);
    nothing("8.0.0.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain, 5);
    // A name that is there is not stood in for.
    nothing("own.wild.shop.internal.", RecordType::A, ResponseCode::NoError, 7);
    nothing("a\\.b.shop.internal.", RecordType::A, ResponseCode::NXDomain, 7);
}

#[test]
fn names_of_no_zone_are_refused_or_asked_of_others() {
    for name in ["example.org.", "shop.", "other.tenant.internal.", "1.2.0.10.in-addr.arpa."] {
        let refused = ask(name, RecordType::A);
        let expected = if name == "shop." { ResponseCode::NXDomain } else { ResponseCode::Refused };
        assert_eq!((refused.0, refused.1.len()), (expected, 0), "{name}");
    }
    let view = View::compile(&parts(true), 1);
    let asks = |name: &str| match answer::answer(&view, &question(name, RecordType::A).to_vec().unwrap()) {
        Reply::Ask(reply, query) => Some((reply.answers.len(), query.name().to_string())),
        _ => None,
    };
    assert_eq!(asks("example.org."), Some((0, "example.org.".into())));
    assert_eq!(asks("org."), Some((0, "org.".into())));
    assert_eq!(asks("out.shop.internal."), Some((1, "example.org.".into())));
    for kept in ["no.shop.internal.", "box.", "tenant2.internal.", "1.2.0.10.in-addr.arpa.", "1.168.192.in-addr.arpa."]
    {
        assert_eq!(asks(kept), None, "{kept} is asked of nobody");
    }
}

#[test]
fn an_answer_fits_what_its_reader_takes() {
    let view = View::compile(&parts(false), 1);
    let sent = |edns: Option<u16>, payload: bool| {
        let mut message = question("all.big.internal.", RecordType::A);
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().unwrap();
        let limit = payload.then(|| answer::payload_of(&bytes));
        let sent = answer::encode(&ask_of(&view, &message), limit).unwrap();
        let read = Message::from_vec(&sent).unwrap();
        assert_eq!(read.edns.is_some(), edns.is_some(), "EDNS is answered with EDNS");
        (sent.len(), read.metadata.truncation, read.answers.len())
    };
    let (length, truncated, answers) = sent(None, true);
    assert!(length <= 512 && truncated && answers == 0);
    let (length, truncated, _) = sent(Some(65_535), true);
    assert!(length <= 1232 && truncated, "{length}");
    let (_, truncated, answers) = sent(Some(1232), false);
    assert!(!truncated && answers == 200, "by TCP all of it");
}

#[test]
fn what_is_no_question_gets_an_error_or_nothing() {
    let view = View::compile(&parts(false), 1);
    let nothing = |bytes: &[u8]| matches!(answer::answer(&view, bytes), Reply::Nothing);
    assert!(nothing(&[]) && nothing(&[0; 5]));
    let mut response = question("box.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert!(nothing(&response.to_vec().unwrap()), "or two servers might talk for ever");
    let mut broken = question("box.", RecordType::A).to_vec().unwrap();
    broken.truncate(15);
    let Reply::Answer(reply) = answer::answer(&view, &broken) else { panic!("it has an id") };
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    let coded = |change: &dyn Fn(&mut Message)| {
        let mut message = question("box.", RecordType::A);
        change(&mut message);
        ask_of(&view, &message).metadata.response_code
    };
    assert_eq!(coded(&|message| message.metadata.op_code = OpCode::Notify), ResponseCode::NotImp);
    assert_eq!(coded(&|message| message.queries.clear()), ResponseCode::FormErr);
    assert_eq!(coded(&|message| message.queries[0].query_class = DNSClass::CH), ResponseCode::Refused);
    assert_eq!(coded(&|message| message.queries[0].query_type = RecordType::AXFR), ResponseCode::Refused);
    let newer = |message: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        message.set_edns(edns);
    };
    assert_eq!(coded(&newer), ResponseCode::BADVERS);
}

#[test]
fn a_question_for_anything_is_answered_with_one_set() {
    let (_, answers, _) = ask("web.shop.internal.", RecordType::ANY);
    assert!((1..=2).contains(&answers.len()), "{answers:?}");
    let reply = ask_of(&View::compile(&parts(false), 1), &question("box.", RecordType::A));
    assert!(matches!(reply.answers[0].data, RData::A(_)) && reply.metadata.authoritative);
}
