//! `url`: what may stand in the first line of a request, in its parts. As Go's `url.ParseRequestURI` reads it, which rules were
//! written for: nothing is completed or made nicer, as a browser's reading would.

use std::any::Any;
use std::collections::HashMap;

use ::cel::common::traits::Comparer;
use ::cel::common::types::{CelList, CelMap, CelMapKey, CelString, STRING_TYPE, Type};
use ::cel::common::value::{CowVal, StaticVal, Val};
use ::cel::{DeclarationError, Env};

use super::library::{Outcome, text};
use super::meter;
use super::types::{failed, flag, this, value};

static URL: Type = Type::new_unspecified_type("kubernetes.URL");

#[derive(Debug, Clone, PartialEq, Default)]
struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
    /// What follows the scheme of `mailto:a@b`; such a URL has no other part.
    opaque: String,
    user: String,
}

value!(Url, URL, |_| None);

/// Declares the functions.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("isURL", "isURL", vec![STRING_TYPE], |a| {
        meter::charge(text(&a, 0)?.len() as u64 / 4)?;
        flag(parse(text(&a, 0)?).is_some())
    })?;
    env.add_overload("url", "string_to_url", vec![STRING_TYPE], |a| {
        meter::charge(text(&a, 0)?.len() as u64 / 4)?;
        let url = parse(text(&a, 0)?).ok_or_else(|| failed("url", "URL parse error during conversion from string"))?;
        Ok(CowVal::owned(url))
    })?;
    let mut part =
        |name: &str, answer| env.add_member_overload(name, &format!("url_{name}"), URL.to_owned(), vec![], answer);
    part("getScheme", |a| said(&this::<Url>(&a, 0)?.scheme))?;
    part("getHost", |a| said(&this::<Url>(&a, 0)?.host))?;
    part("getHostname", |a| said(name_and_port(&this::<Url>(&a, 0)?.host).0))?;
    part("getPort", |a| said(name_and_port(&this::<Url>(&a, 0)?.host).1))?;
    part("getEscapedPath", |a| {
        let path = &this::<Url>(&a, 0)?.path;
        meter::charge(path.len() as u64 / 4)?;
        said(&escaped(path))
    })?;
    env.add_member_overload("getQuery", "url_getQuery", URL.to_owned(), vec![], |a| {
        let query = &this::<Url>(&a, 0)?.query;
        meter::charge(query.len() as u64)?;
        let mut lists: HashMap<String, Vec<Box<dyn Val>>> = HashMap::new();
        for (key, value) in pairs(query) {
            lists.entry(key).or_default().push(Box::new(CelString::from(value)));
        }
        let boxed = |list| Box::new(CelList::from(list)) as Box<dyn Val>;
        let map: HashMap<CelMapKey<'_>, Box<dyn Val>> =
            lists.into_iter().map(|(key, list)| (CelMapKey::from(key), boxed(list))).collect();
        Ok(CowVal::owned(CelMap::from(map)))
    })
}

fn said<'b, 'v>(part: &str) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelString::from(part.to_owned())))
}

fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return None;
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme, query: query.to_owned(), ..Url::default() };
    if !rest.starts_with('/') {
        rest.clone_into(&mut url.opaque);
        return (!url.scheme.is_empty()).then_some(url);
    }
    let mut path = rest;
    if let Some(after) = rest.strip_prefix("//").filter(|_| !url.scheme.is_empty()) {
        let end = after.find('/').unwrap_or(after.len());
        let (user, host) = after[..end].rsplit_once('@').unwrap_or(("", &after[..end]));
        let known = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if !user.chars().all(known) || unescaped(user, false).is_none() {
            return None;
        }
        user.clone_into(&mut url.user);
        url.host = read_host(host)?;
        path = &after[end..];
    }
    unescaped(path, false)?;
    path.clone_into(&mut url.path);
    Some(url)
}

/// The scheme in lower case, and what follows it; none where there is none. A colon without a scheme is an error.
fn scheme(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(text.len());
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    match text[end..].strip_prefix(':') {
        Some(rest) if begins_well => Some((text[..end].to_ascii_lowercase(), rest)),
        Some(_) if end == 0 => None,
        _ => Some((String::new(), text)),
    }
}

fn read_host(host: &str) -> Option<String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?.1,
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let port_fits =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    // Escapes are for what is no ASCII; what is must be allowed as it stands.
    let allowed = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    let plain = unescaped(host, false)?;
    let hidden = host.len() != plain.len() && plain.chars().filter(|c| !c.is_ascii()).count() == 0;
    (port_fits && host.chars().all(allowed) && !hidden).then_some(plain)
}

/// `[::1]:80` as `::1` and `80`.
fn name_and_port(host: &str) -> (&str, &str) {
    if let Some((name, rest)) = host.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return (name, rest.strip_prefix(':').unwrap_or_default());
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

/// None when an escape is damaged. Bytes that are no text are shown as such.
fn unescaped(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Some(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The path as it was written when all of it may stand there, else with what may not escaped.
fn escaped(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~$&+/:=@".contains(c);
    if path.chars().all(|c| plain(c) || "!'()*,;[]%".contains(c)) {
        return path.to_owned();
    }
    let mut out = String::with_capacity(path.len());
    for byte in unescaped(path, false).unwrap_or_default().bytes() {
        match char::from(byte) {
            c if plain(c) => out.push(c),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Keys and values; what is damaged is passed over.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescaped(key, true)?, unescaped(value, true)?))
    })
}
