//! HAProxy's configuration of a proxy: pure.
//!
//! What tenants chose is written byte by byte, all but letters, digits and `/ . _ -` as their numbers, so nothing of it can mean anything.
//! Everything else has a name made of addresses and numbers.

use std::cmp::Reverse;
use std::fmt::Write;
use std::net::Ipv4Addr;

use super::SOCKET;
use super::config::{Hostname, Listener, Path, Pool, Proxy, Route};

/// Connections at once.
const CONNECTIONS: u32 = 8192;

/// What holds for all. A connection that nobody uses is closed before those are ended that a change leaves behind, and is otherwise kept
/// until its next answer, so that none is closed while a request is on its way. What reached no backend, or could be asked twice and
/// was not answered, is asked of another one.
const DEFAULTS: &str = "defaults
  mode http
  timeout connect 2s
  timeout http-request 20s
  timeout http-keep-alive 20s
  timeout queue 10s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  retries 2
  option redispatch 1
  retry-on conn-failure empty-response
  option idle-close-on-response
";

/// How TLS is spoken: by what a client of the last ten years knows and no attack is known of (Mozilla's "intermediate" configuration,
/// without the ciphers that need parameters of their own). A ticket would be read by whoever gets the process's key later.
const TLS: &str = "  ssl-default-bind-options ssl-min-ver TLSv1.2 prefer-client-ciphers no-tls-tickets
  ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
";

pub(super) fn text(proxy: &Proxy) -> String {
    let tls = if proxy.certificates().next().is_some() { TLS } else { "" };
    let mut text = format!(
        "global\n  nbthread 2\n  maxconn {CONNECTIONS}\n  no strict-limits\n  hard-stop-after {}s\n  \
         stats socket unix@{SOCKET} mode 600 level admin expose-fd listeners\n{tls}{DEFAULTS}",
        proxy.drain.max(1)
    );
    for listener in &proxy.listeners {
        add(&mut text, listener);
    }
    text
}

fn add(text: &mut String, listener: &Listener) {
    let name = format!("{}_{}", listener.address, listener.port);
    line(text, format_args!("frontend {name}"));
    line(text, format_args!("  bind {}:{}{}", listener.address, listener.port, shown(listener)));
    line(text, format_args!("  http-request set-var(txn.host) req.hdr(host),host_only,lower"));
    // Nobody stands before us whose word on this could be trusted.
    line(text, format_args!("  http-request set-header X-Forwarded-For %[src]"));
    let spoken = if listener.tls.is_some() { "https" } else { "http" };
    line(text, format_args!("  http-request set-header X-Forwarded-Proto {spoken}"));
    line(text, format_args!("  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }}"));
    let mut routes: Vec<(usize, &Route)> = listener.routes.iter().enumerate().collect();
    routes.sort_by_key(|(at, route)| (Reverse(rank(route)), *at));
    for (at, route) in &routes {
        line(text, format_args!("  use_backend {name}_{at}{}", condition(route)));
    }
    line(text, format_args!("  default_backend {name}_rest"));
    for (at, route) in listener.routes.iter().enumerate() {
        add_pool(text, &format!("{name}_{at}"), &route.pool);
    }
    add_pool(text, &format!("{name}_rest"), &listener.rest);
}

/// What a listener shows to its clients; of several, HAProxy chooses by the name that is asked for, and the first without one.
fn shown(listener: &Listener) -> String {
    let Some(certificates) = &listener.tls else { return String::new() };
    let each: String = certificates.iter().map(|one| format!(" crt {}", one.path())).collect();
    format!(" ssl{each} alpn h2,http/1.1")
}

/// How specific it is: first its host, one alone before many and a longer one before a shorter, then its path in the same way.
fn rank(route: &Route) -> (u8, usize, bool, usize) {
    let (kind, length) = match &route.host {
        None => (0, 0),
        Some(host) => (if host.suffix().is_some() { 1 } else { 2 }, host.to_string().len()),
    };
    (kind, length, route.path.is_exact(), route.path.text().len())
}

/// When a request is one of the route's: every part holds, of the alternatives of a part one.
fn condition(route: &Route) -> String {
    let host = route.host.as_ref().map(host_is);
    let paths = match &route.path {
        any if any.is_any() => Vec::new(),
        path => path_is(path),
    };
    let host = host.unwrap_or_default();
    let alternatives: Vec<String> = match paths.is_empty() {
        true => vec![host],
        false => paths.iter().map(|path| format!("{host}{path}")).collect(),
    };
    match alternatives.iter().all(String::is_empty) {
        true => String::new(),
        false => format!(" if{}", alternatives.join(" or")),
    }
}

fn host_is(host: &Hostname) -> String {
    match host.suffix() {
        Some(suffix) => format!(" {{ var(txn.host) -m end -- {} }}", word(suffix)),
        None => format!(" {{ var(txn.host) -m str -- {} }}", word(&host.to_string())),
    }
}

fn path_is(path: &Path) -> Vec<String> {
    let exactly = format!(" {{ path -m str -- {} }}", word(path.text()));
    match path.is_exact() {
        true => vec![exactly],
        false => vec![exactly, format!(" {{ path -m beg -- {}/ }}", word(path.text()))],
    }
}

fn add_pool(text: &mut String, name: &str, pool: &Pool) {
    line(text, format_args!("backend {name}"));
    match pool.sticky {
        true => line(text, format_args!("  balance source\n  hash-type consistent")),
        false => line(text, format_args!("  balance roundrobin")),
    }
    line(text, format_args!("  source {} usesrc clientip", Ipv4Addr::UNSPECIFIED));
    for server in &pool.servers {
        let at = format!("{}:{}", server.address, server.port);
        line(text, format_args!("  server {at} {at} weight {}", server.weight.clamp(1, 256)));
    }
}

fn line(text: &mut String, said: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{said}");
}

/// A word of the configuration that means exactly this text (HAProxy's manual, "Quoting and escaping").
fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => word.push(char::from(byte)),
            other => {
                let _ = write!(word, "\\x{other:02x}");
            }
        }
    }
    word
}

#[cfg(test)]
mod tests;
