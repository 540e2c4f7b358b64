//! The protobuf wire format: tags and payloads, nothing of what they mean.
//!
//! A generated decoder would need a type for each message; the tables beside this file need only a reader of fields.

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A number or a payload goes past the end.
    #[error("it ends within a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Overflow,
    /// A tag that no message has.
    #[error("a field has an invalid tag")]
    Tag,
    /// A field comes in another form than its message declares.
    #[error("field {0} has another type than its message declares")]
    Type(&'static str),
    /// A text that is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Text(&'static str),
    /// A moment that no calendar has.
    #[error("field {0} is no moment")]
    Time(&'static str),
}

/// What a field carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Integers and booleans.
    Number(u64),
    /// Texts, bytes and messages.
    Bytes(&'a [u8]),
    /// Floating and fixed numbers, which no message here has.
    Fixed,
}

/// Reads one field after another.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next field's number and payload; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let payload = match key & 7 {
            0 => Payload::Number(self.number()?),
            1 => self.take(8).map(|_| Payload::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| Malformed::Truncated)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            _ => return Err(Malformed::Tag),
        };
        match key >> 3 {
            0 => Err(Malformed::Tag),
            tag => Ok(Some((tag, payload))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::Overflow);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Overflow)
    }
}
