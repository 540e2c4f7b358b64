use super::super::config::{Certificate, Server};
use super::*;
use proptest::prelude::*;

fn pool(last: u8) -> Pool {
    Pool { servers: vec![Server { address: [10, 1, 0, last].into(), port: 8080, weight: 3 }], sticky: false }
}

fn route(host: Option<&str>, path: Path, last: u8) -> Route {
    Route { host: host.map(|host| host.parse().unwrap()), path, pool: pool(last) }
}

fn proxy(routes: Vec<Route>) -> Proxy {
    let rest = Pool { servers: Vec::new(), sticky: true };
    Proxy { listeners: vec![Listener { address: [10, 1, 0, 50].into(), port: 80, tls: None, routes, rest }], drain: 0 }
}

#[test]
fn a_listener_with_certificates_speaks_tls_and_names_none_of_their_bytes() {
    let mut proxy = proxy(Vec::new());
    let mut tls = proxy.listeners[0].clone();
    (tls.port, tls.tls) = (443, Some(vec![Certificate::new("the first key"), Certificate::new("the second key")]));
    proxy.listeners.push(tls);
    insta::assert_snapshot!(text(&proxy));
    let shown = format!("{proxy:?}");
    assert!(shown.contains("digest") && !shown.contains("key"), "{shown}");
}

#[test]
fn the_most_specific_route_comes_first() {
    let text = text(&proxy(vec![
        route(None, Path::prefix("/").unwrap(), 11),
        route(Some("*.shop.example"), Path::prefix("/").unwrap(), 12),
        route(None, Path::prefix("/api/").unwrap(), 13),
        route(Some("a.shop.example"), Path::prefix("/").unwrap(), 14),
        route(Some("a.shop.example"), Path::prefix("/it's{a}#1").unwrap(), 15),
        route(None, Path::exact("/api").unwrap(), 16),
    ]));
    insta::assert_snapshot!(text);
}

/// What HAProxy makes of a line: its words, by the rules that its manual tells.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for text in line.split([' ', '\t']).filter(|text| !text.is_empty()) {
        assert!(!text.contains(['"', '\'', '#', '$']), "{line}");
        let (mut word, bytes) = (Vec::new(), text.as_bytes());
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'\\' {
                assert_eq!(bytes[at + 1], b'x', "{line}");
                word.push(u8::from_str_radix(&text[at + 2..at + 4], 16).unwrap());
                at += 4;
            } else {
                word.push(bytes[at]);
                at += 1;
            }
        }
        words.push(word);
    }
    words
}

proptest! {
    #[test]
    fn whatever_a_tenant_chooses_is_one_word_that_means_itself(host in "\\PC{0,20}", path in "[ -~\\n\u{e4}]{0,30}|[!-~]{1,60}") {
        let host: Option<Hostname> = host.to_lowercase().parse().ok();
        for path in [path.clone(), format!("/{path}")] {
            let Ok(path) = Path::exact(&path) else { continue };
            let wanted = path.text().as_bytes().to_vec();
            let one = Route { host: host.clone(), path, pool: pool(2) };
            let text = text(&proxy(vec![one]));
            let plain = super::text(&proxy(vec![route(host.is_some().then_some("x"), Path::exact("/x").unwrap(), 2)]));
            prop_assert_eq!(text.lines().count(), plain.lines().count(), "no line more");
            let line = text.lines().find(|line| line.contains("use_backend")).unwrap();
            let words = words(line);
            let at = words.iter().rposition(|word| word == b"path").unwrap();
            prop_assert_eq!(&words[at + 4], &wanted);
            prop_assert_eq!(words[at + 5].as_slice(), b"}");
            prop_assert_eq!(words.len(), at + 6);
        }
    }
}

#[test]
fn what_is_no_host_and_no_path_is_refused() {
    for host in ["", "a..b", "-a", "a-", "A", "*", "*.", "a b", "a\nb", "a}", "x.*.y", &"a".repeat(254)] {
        assert!(host.parse::<Hostname>().is_err(), "{host:?}");
    }
    for path in ["", "a", "/a b", "/a\n", "/\u{e4}", "/\0"] {
        assert!(Path::exact(path).is_err() && Path::prefix(path).is_err(), "{path:?}");
    }
}
