//! The format of captures, as far as one device needs it: written by who hears, followed by who passes it on.
//!
//! pcapng (IETF draft-ietf-opsawg-pcapng) and not its forerunner, because it has a place for what is only known at the end:
//! how much was lost. Wireshark, tshark and tcpdump read it from a pipe. Numbers are little-endian, times are in nanoseconds.
//!
//! ```text
//!  section header │ device │ frame │ frame │ … │ statistics
//! ```

use std::time::Duration;

use bytes::BufMut;

use super::{Counted, Direction, Frame};

/// Types of blocks.
const SECTION: u32 = 0x0A0D_0D0A;
const DEVICE: u32 = 1;
const STATISTICS: u32 = 5;
const FRAME: u32 = 6;
/// Tells in which order a number's bytes are.
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
/// Ethernet, of the registered link types.
const ETHERNET: u16 = 1;

/// Options, whose numbers depend on their block.
const COMMENT: u16 = 1;
const SECTION_PROGRAM: u16 = 4;
const DEVICE_NAME: u16 = 2;
const DEVICE_DESCRIPTION: u16 = 3;
const DEVICE_RESOLUTION: u16 = 9;
const FRAME_FLAGS: u16 = 2;
const SEEN: u16 = 4;
const LOST: u16 = 5;

/// Type and both lengths of a block.
const FRAMING: usize = 12;
/// What a block of a frame has besides the frame: device, time, two lengths, one option and the end of options.
const FRAME_FIXED: usize = 32;
/// A block of statistics that we write is far shorter.
const LONGEST_STATISTICS: usize = 4096;

/// Writes the beginning: who captures, and what.
pub fn begin(out: &mut impl BufMut, program: &str, device: &str, description: &str, snaplen: u32) {
    let mut section = Vec::new();
    section.put_u32_le(BYTE_ORDER);
    section.put_u16_le(1);
    section.put_u16_le(0);
    // How long the section is nobody knows yet.
    section.put_i64_le(-1);
    option(&mut section, SECTION_PROGRAM, program.as_bytes());
    end_of_options(&mut section);
    block(out, SECTION, &section);

    let mut body = Vec::new();
    body.put_u16_le(ETHERNET);
    body.put_u16_le(0);
    body.put_u32_le(snaplen);
    option(&mut body, DEVICE_NAME, device.as_bytes());
    option(&mut body, DEVICE_DESCRIPTION, description.as_bytes());
    option(&mut body, DEVICE_RESOLUTION, &[9]);
    end_of_options(&mut body);
    block(out, DEVICE, &body);
}

/// Writes a frame.
pub fn frame(out: &mut impl BufMut, frame: &Frame<'_>) {
    let padded = frame.bytes.len().next_multiple_of(4);
    let length = u32::try_from(FRAMING + FRAME_FIXED + padded).unwrap_or(u32::MAX);
    out.put_u32_le(FRAME);
    out.put_u32_le(length);
    out.put_u32_le(0);
    put_time(out, frame.time);
    out.put_u32_le(u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX));
    out.put_u32_le(u32::try_from(frame.length).unwrap_or(u32::MAX));
    out.put_slice(frame.bytes);
    out.put_bytes(0, padded - frame.bytes.len());
    out.put_u16_le(FRAME_FLAGS);
    out.put_u16_le(4);
    out.put_u32_le(match frame.direction {
        Direction::Inbound => 0b01,
        Direction::Outbound => 0b10,
    });
    out.put_u32_le(0);
    out.put_u32_le(length);
}

/// Writes the end: what came by, and why it ended if nobody asked for that.
pub fn end(out: &mut impl BufMut, time: Duration, counted: Counted, why: Option<&str>) {
    let mut body = Vec::new();
    body.put_u32_le(0);
    put_time(&mut body, time);
    if let Some(why) = why {
        option(&mut body, COMMENT, why.as_bytes());
    }
    option(&mut body, SEEN, &counted.seen.to_le_bytes());
    option(&mut body, LOST, &counted.lost.to_le_bytes());
    end_of_options(&mut body);
    block(out, STATISTICS, &body);
}

fn block(out: &mut impl BufMut, kind: u32, body: &[u8]) {
    let length = u32::try_from(body.len() + FRAMING).unwrap_or(u32::MAX);
    out.put_u32_le(kind);
    out.put_u32_le(length);
    out.put_slice(body);
    out.put_u32_le(length);
}

/// Nanoseconds since 1970, the upper half first.
fn put_time(body: &mut impl BufMut, time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    body.put_u32_le((nanoseconds >> 32) as u32);
    body.put_u32_le(nanoseconds as u32);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.put_u16_le(code);
    body.put_u16_le(value.len() as u16);
    body.put_slice(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.put_u32_le(0);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// What the end of a capture says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What came by.
    pub counted: Counted,
    /// Why it ended, if nobody asked for that.
    pub why: Option<String>,
}

/// The bytes are no capture as we write it.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("what comes is no capture")]
pub struct Malformed;

/// Follows a capture that is passed on: counts its frames and hears its end. Keeps no frame.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    /// Whole frames so far.
    pub frames: u64,
    /// The end, once it has come.
    pub ending: Option<Ending>,
    begun: bool,
    /// The beginning of a block, until it is known what it is; all of it when it is the end.
    block: Vec<u8>,
    /// Bytes of a block that are still to come and do not matter.
    rest: usize,
}

impl Follower {
    /// Takes up the next bytes.
    ///
    /// # Errors
    /// That this is no capture.
    pub fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = self.wanted()?;
            let taken = (wanted - self.block.len()).min(bytes.len());
            self.block.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.judge()?;
        }
        Ok(())
    }

    /// How much of the block has to be there before it can be judged.
    fn wanted(&self) -> Result<usize, Malformed> {
        match self.head()? {
            Some((STATISTICS, length)) if length > LONGEST_STATISTICS => Err(Malformed),
            Some((STATISTICS, length)) => Ok(length),
            _ => Ok(8),
        }
    }

    fn judge(&mut self) -> Result<(), Malformed> {
        let Some((kind, length)) = self.head()? else { return Ok(()) };
        if !self.begun && kind != SECTION {
            return Err(Malformed);
        }
        self.begun = true;
        match kind {
            STATISTICS if self.block.len() < length => return Ok(()),
            STATISTICS => self.ending = Some(ending(&self.block[8..length - 4])?),
            FRAME => self.frames += 1,
            _ => {}
        }
        self.rest = length - self.block.len();
        self.block.clear();
        Ok(())
    }

    /// Type and length of the block.
    fn head(&self) -> Result<Option<(u32, usize)>, Malformed> {
        let Some((kind, rest)) = self.block.split_first_chunk::<4>() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        match length >= FRAMING && length.is_multiple_of(4) {
            true => Ok(Some((u32::from_le_bytes(*kind), length))),
            false => Err(Malformed),
        }
    }
}

/// Reads the options of the statistics.
fn ending(body: &[u8]) -> Result<Ending, Malformed> {
    let mut options = body.get(12..).ok_or(Malformed)?;
    let mut ending = Ending { counted: Counted::default(), why: None };
    while let Some((head, rest)) = options.split_first_chunk::<4>() {
        let [code, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
        let length = usize::from(length);
        let value = rest.get(..length).ok_or(Malformed)?;
        let number = || value.try_into().map(u64::from_le_bytes).map_err(|_| Malformed);
        match code {
            0 => break,
            COMMENT => ending.why = Some(String::from_utf8_lossy(value).into_owned()),
            SEEN => ending.counted.seen = number()?,
            LOST => ending.counted.lost = number()?,
            _ => {}
        }
        options = rest.get(length.next_multiple_of(4)..).ok_or(Malformed)?;
    }
    Ok(ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn capture(frames: &[Vec<u8>], why: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out, "test 1", "tap-1", "Port t/web", 65_535);
        for bytes in frames {
            let time = Duration::new(1_700_000_000, 123_456_789);
            frame(&mut out, &Frame { time, direction: Direction::Inbound, bytes, length: bytes.len() + 1 });
        }
        end(&mut out, Duration::from_secs(1), Counted { seen: 7, lost: 3 }, why);
        out
    }

    #[test]
    fn a_frame_is_written_as_the_format_says() {
        let mut out = Vec::new();
        let time = Duration::new(1, 2);
        frame(&mut out, &Frame { time, direction: Direction::Outbound, bytes: &[1, 2, 3, 4, 5], length: 9 });
        let nanoseconds = 1_000_000_002u32;
        let expected = [
            &[6, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0][..],
            &[0; 4],
            &nanoseconds.to_le_bytes(),
            &[5, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0],
            &[2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn what_is_no_capture_is_told() {
        for bad in [&b"HTTP/1.1 200 OK"[..], &[0x0A, 0x0D, 0x0D, 0x0A, 5, 0, 0, 0], &[6, 0, 0, 0, 12, 0, 0, 0]] {
            assert_eq!(Follower::default().follow(bad), Err(Malformed), "{bad:?}");
        }
        let mut endless = capture(&[], None);
        endless.truncate(endless.len() - 8);
        endless.extend([5, 0, 0, 0, 0, 0, 1, 0]);
        let mut follower = Follower::default();
        let _ = follower.follow(&endless);
        assert_eq!(follower.ending, None, "statistics longer than we write are not gathered");
    }

    proptest! {
        #[test]
        fn whoever_follows_counts_the_same_however_the_bytes_come(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            piece in 1usize..100,
            why in proptest::option::of("[a-z ]{0,40}"),
        ) {
            let bytes = capture(&frames, why.as_deref());
            let mut follower = Follower::default();
            for part in bytes.chunks(piece) {
                prop_assert_eq!(&follower.ending, &None);
                follower.follow(part).unwrap();
            }
            prop_assert_eq!(follower.frames, frames.len() as u64);
            let counted = Counted { seen: 7, lost: 3 };
            prop_assert_eq!(follower.ending, Some(Ending { counted, why }));
        }
    }
}
