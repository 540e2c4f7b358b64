//! Names of links: at most fifteen bytes, and safe in every file and command line they end up in.

use std::fmt;
use std::str::FromStr;

use crate::netns::short_id;

/// A valid name of a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName(String);

/// The text cannot name a link.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot name a link: use 1 to 15 letters, digits, '-', '_' or '.', beginning with a letter or digit")]
pub struct InvalidLinkName(String);

impl LinkName {
    /// The name of an owner's link: a prefix of up to six letters says what it is, the rest whose (its UID, shortened).
    pub fn of_owner(prefix: &str, owner: &str) -> Result<LinkName, InvalidLinkName> {
        format!("{prefix}{}", short_id(owner)).parse()
    }

    pub(super) fn loopback() -> LinkName {
        LinkName("lo".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = InvalidLinkName;

    fn from_str(name: &str) -> Result<Self, InvalidLinkName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        match name.len() <= 15 && begins_well && name.chars().all(plain) {
            true => Ok(LinkName(name.to_owned())),
            false => Err(InvalidLinkName(name.to_owned())),
        }
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_limit_is_ours() {
        assert!("abcdefghijklmno".parse::<LinkName>().is_ok());
        for name in ["abcdefghijklmnop", "", "..", "a b", "a/b", "-x", "ü", "a%d"] {
            assert!(name.parse::<LinkName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_owner_has_a_link_of_each_prefix() {
        let name = LinkName::of_owner("br-", "0f3c9a1e-2222-4333-8444-555566667777").unwrap();
        assert_eq!(name.as_str(), "br-0f3c9a1e");
        assert!(LinkName::of_owner("toolong-", "x").is_err());
    }
}
