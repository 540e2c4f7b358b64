//! `string.format`: values within a text, as cel-go's strings extension writes them. The crate has this
//! function, too; ours pays for what it writes ([`super::meter`]).

use ::cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, LIST_TYPE, STRING_TYPE,
};
use ::cel::common::value::{CowVal, Val};
use ::cel::{DeclarationError, Env, ExecutionError};

use super::library::{Outcome, elements, text};
use super::types::failed;
use super::{ENV, meter};

/// More digits after the point than any double has.
const MOST_DIGITS: usize = 1000;
/// Lists within lists, deeper than anybody writes.
const DEEPEST: usize = 32;

/// Declares the function.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("@format", "string.@format", STRING_TYPE, vec![LIST_TYPE], format)
}

fn format<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let mut out = String::new();
    {
        let mut values = elements(&arguments[1])?.iter();
        let mut rest = text(&arguments, 0)?;
        meter::charge(rest.len() as u64 / 8 + 1)?;
        while let Some((before, clause)) = rest.split_once('%') {
            out.push_str(before);
            if let Some(after) = clause.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let (clause, precision) = precision(clause)?;
            let mut letters = clause.chars();
            let letter = letters.next().ok_or_else(|| failed("format", "unexpected end of string"))?;
            let value = values.next().ok_or_else(|| failed("format", "index out of range"))?;
            let written = written(letter, precision, value)?;
            meter::charge(written.len() as u64 / 8 + 1)?;
            out.push_str(&written);
            rest = letters.as_str();
        }
        out.push_str(rest);
    }
    Ok(CowVal::owned(CelString::from(out)))
}

/// `.3f`: what follows the precision, and that.
fn precision(clause: &str) -> Result<(&str, usize), ExecutionError> {
    let Some(digits) = clause.strip_prefix('.') else { return Ok((clause, 6)) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let precision = digits[..end].parse().ok().filter(|precision| *precision <= MOST_DIGITS);
    Ok((&digits[end..], precision.ok_or_else(|| failed("format", "error while parsing precision"))?))
}

fn written(letter: char, precision: usize, value: &dyn Val) -> Result<String, ExecutionError> {
    let unfit = || {
        let kind = value.get_type().name().to_owned();
        failed("format", &format!("%{letter} does not take a value of type {kind}"))
    };
    let whole = whole(value);
    Ok(match letter {
        's' => shown(value, 0)?,
        'd' => match value.downcast_ref::<CelDouble>() {
            Some(double) => plain(*double.inner()),
            None => whole.ok_or_else(unfit)?.to_string(),
        },
        'f' => fraction(value, |number| format!("{number:.precision$}")).ok_or_else(unfit)?,
        'e' => fraction(value, |number| scientific(number, precision)).ok_or_else(unfit)?,
        'b' => match value.downcast_ref::<CelBool>() {
            Some(flag) => i32::from(*flag.inner()).to_string(),
            None => signed(whole.ok_or_else(unfit)?, |number| format!("{number:b}")),
        },
        'o' => signed(whole.ok_or_else(unfit)?, |number| format!("{number:o}")),
        'x' => hexadecimal(value).ok_or_else(unfit)?,
        'X' => hexadecimal(value).ok_or_else(unfit)?.to_uppercase(),
        other => return Err(failed("format", &format!("unrecognized formatting clause \"{other}\""))),
    })
}

fn whole(value: &dyn Val) -> Option<i128> {
    let int = value.downcast_ref::<CelInt>().map(|int| i128::from(*int.inner()));
    int.or_else(|| value.downcast_ref::<CelUInt>().map(|uint| i128::from(*uint.inner())))
}

fn signed(number: i128, write: impl Fn(u128) -> String) -> String {
    format!("{}{}", if number < 0 { "-" } else { "" }, write(number.unsigned_abs()))
}

fn hexadecimal(value: &dyn Val) -> Option<String> {
    let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Some(bytes(text.inner().as_bytes()));
    }
    if let Some(raw) = value.downcast_ref::<CelBytes>() {
        return Some(bytes(raw.inner()));
    }
    whole(value).map(|number| signed(number, |number| format!("{number:x}")))
}

/// A number with a fraction; the words for those that are none stay what they are.
fn fraction(value: &dyn Val, write: impl Fn(f64) -> String) -> Option<String> {
    let word = value.downcast_ref::<CelString>().map(CelString::inner);
    let number = match (value.downcast_ref::<CelDouble>(), word) {
        (Some(double), _) => *double.inner(),
        (None, Some("NaN")) => f64::NAN,
        (None, Some("Infinity")) => f64::INFINITY,
        (None, Some("-Infinity")) => f64::NEG_INFINITY,
        (None, _) => whole(value)? as f64,
    };
    Some(if number.is_finite() { write(number) } else { plain(number) })
}

/// `1.500e+03`: the exponent with a sign and two digits.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn plain(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        number => number.to_string(),
    }
}

/// A value as `%s` shows it.
fn shown(value: &dyn Val, depth: usize) -> Result<String, ExecutionError> {
    if depth > DEEPEST {
        return Err(failed("format", "too many levels"));
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Ok(text.inner().to_owned());
    }
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        return Ok(plain(*double.inner()));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok("null".to_owned());
    }
    if let Some(flag) = value.downcast_ref::<CelBool>() {
        return Ok(flag.inner().to_string());
    }
    if let Some(items) = value.as_iterable() {
        let is_list = value.get_type() == <CelList<'_> as Val>::cel_type();
        let mut parts = Vec::new();
        let mut items = items.iter();
        while let Some(item) = items.next() {
            meter::charge(2)?;
            parts.push(match value.as_indexer().filter(|_| !is_list) {
                Some(map) => format!("{}: {}", shown(item, depth + 1)?, shown(map.get(item)?.as_ref(), depth + 1)?),
                None => shown(item, depth + 1)?,
            });
        }
        // A map has no order of its own.
        if is_list {
            return Ok(format!("[{}]", parts.join(", ")));
        }
        parts.sort();
        return Ok(format!("{{{}}}", parts.join(", ")));
    }
    let argument = vec![CowVal::Owned(value.clone_as_boxed())];
    let convert = ENV
        .find_overload("string", &argument)
        .ok_or_else(|| failed("format", &format!("%s does not take a value of type {}", value.get_type().name())))?;
    let converted = convert(argument)?;
    converted.downcast_ref::<CelString>().map(|text| text.inner().to_owned()).ok_or_else(|| failed("format", "no text"))
}
