//! Names that tell whose a thing is.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Name of the namespace of an owner (its UID) within an instance.
pub fn namespace_name(instance: &str, owner: &str) -> String {
    format!("pc-{}-{}", short_id(instance), short_id(owner))
}

/// Eight hexadecimal digits for a name: a UUID's first, else of a digest. Links have only fifteen bytes for their name.
pub fn short_id(name: &str) -> String {
    match Uuid::parse_str(name) {
        Ok(uuid) => uuid.simple().to_string()[..8].to_owned(),
        Err(_) => Sha256::digest(name.as_bytes())[..4].iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

pub(super) fn is_valid(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uuid_is_recognised_by_its_first_digits() {
        let name = namespace_name("my-instance", "0F3C9a1e-2222-4333-8444-555566667777");
        assert!(name.starts_with("pc-") && name.ends_with("-0f3c9a1e"), "{name}");
        assert_eq!(short_id("my-instance").len(), 8);
        assert_ne!(short_id("my-instance"), short_id("my-instance2"));
    }

    #[test]
    fn a_path_is_no_name() {
        for name in ["", "..", ".", "a/b", "a\0", "-a", "a b"] {
            assert!(!is_valid(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_owner_the_name_is_valid(instance in ".*", owner in ".*") {
            prop_assert!(is_valid(&namespace_name(&instance, &owner)));
        }
    }
}
