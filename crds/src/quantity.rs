//! Byte quantities, written as Kubernetes writes them: `512Mi`, `2Gi`, `1G`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A number of bytes with an optional binary (`Ki` … `Ti`) or decimal (`k` … `T`) suffix.
///
/// Source: Kubernetes resource quantities, of which the whole-number byte forms are accepted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(transparent)]
pub struct Quantity(#[schemars(regex(pattern = r"^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti|k|M|G|T)?$"))] pub String);

/// A quantity that does not parse, or does not fit 64 bits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a byte quantity: {0:?} (write it as 512Mi or 2Gi)")]
pub struct BadQuantity(pub String);

impl Quantity {
    /// The number of bytes.
    ///
    /// # Errors
    /// [`BadQuantity`] when the text is none or overflows 64 bits.
    pub fn bytes(&self) -> Result<u64, BadQuantity> {
        let text = self.0.as_str();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(split);
        let factor: u64 = match suffix {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err(BadQuantity(text.to_owned())),
        };
        digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(|| BadQuantity(text.to_owned()))
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale_and_overflow_is_refused() {
        for (text, bytes) in [("7", 7), ("2Ki", 2048), ("256Mi", 256 << 20), ("1G", 1_000_000_000)] {
            assert_eq!(Quantity::from(text).bytes(), Ok(bytes), "{text}");
        }
        for text in ["", "Mi", "1.5Gi", "-1", "99999999999999999999", "999999999999999Ti", "1 Gi"] {
            assert!(Quantity::from(text).bytes().is_err(), "{text}");
        }
    }
}
