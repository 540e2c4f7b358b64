//! Names of hosts and domains, which hold nothing that a line of a configuration could be broken with.

use std::fmt;
use std::str::FromStr;

/// The text is no name of a host or domain.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no {1}: use labels of 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
)]
pub struct InvalidName(String, &'static str);

/// A single label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// One or more labels, at most 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || c == '-')
}

impl FromStr for HostName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match is_label(text) {
            true => Ok(HostName(text.to_owned())),
            false => Err(InvalidName(text.to_owned(), "host name")),
        }
    }
}

impl FromStr for DomainName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.len() <= 253 && text.split('.').all(is_label) {
            true => Ok(DomainName(text.to_owned())),
            false => Err(InvalidName(text.to_owned(), "domain name")),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
