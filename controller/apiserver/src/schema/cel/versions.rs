//! `semver`: versions as semver.org orders them, where what was built on does not count.

use std::any::Any;
use std::cmp::Ordering;

use ::cel::common::traits::Comparer;
use ::cel::common::types::{BOOL_TYPE, CelBool, CelInt, STRING_TYPE, Type};
use ::cel::common::value::{CowVal, StaticVal, Val};
use ::cel::{DeclarationError, Env, ExecutionError};
use semver::Version;

use super::library::{Outcome, text};
use super::meter;
use super::types::{failed, flag, this, value};

static SEMVER: Type = Type::new_unspecified_type("kubernetes.Semver");

#[derive(Debug, Clone)]
struct Semver(Version);

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0) == Ordering::Equal
    }
}

value!(Semver, SEMVER, |_| None);

/// Declares the functions.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    for (id, loosely) in [("", false), ("_normalized", true)] {
        let arguments = || if loosely { vec![STRING_TYPE, BOOL_TYPE] } else { vec![STRING_TYPE] };
        env.add_overload("isSemver", &format!("is_semver{id}"), arguments(), |a| flag(read(&a)?.is_some()))?;
        env.add_overload("semver", &format!("string_to_semver{id}"), arguments(), |a| {
            let version = read(&a)?.ok_or_else(|| failed("semver", "not a valid semantic version"))?;
            Ok(CowVal::owned(Semver(version)))
        })?;
    }
    let mut part = |name: &str, answer| {
        env.add_member_overload(name, &format!("semver_{name}"), SEMVER.to_owned(), vec![], answer)
    };
    part("major", |a| number(version(&a, 0)?.major))?;
    part("minor", |a| number(version(&a, 0)?.minor))?;
    part("patch", |a| number(version(&a, 0)?.patch))?;
    let mut ask = |name: &str, answer| {
        env.add_member_overload(name, &format!("semver_{name}"), SEMVER.to_owned(), vec![SEMVER.to_owned()], answer)
    };
    ask("isGreaterThan", |a| flag(order(&a)? == Ordering::Greater))?;
    ask("isLessThan", |a| flag(order(&a)? == Ordering::Less))?;
    ask("compareTo", |a| Ok(CowVal::owned(CelInt::from(order(&a)? as i64))))
}

fn version<'a>(arguments: &'a [CowVal<'_, '_>], index: usize) -> Result<&'a Version, ExecutionError> {
    Ok(&this::<Semver>(arguments, index)?.0)
}

fn order(arguments: &[CowVal<'_, '_>]) -> Result<Ordering, ExecutionError> {
    Ok(version(arguments, 0)?.cmp_precedence(version(arguments, 1)?))
}

fn number<'b, 'v>(number: u64) -> Outcome<'b, 'v> {
    let number = i64::try_from(number).map_err(|_| failed("semver", "integer overflow"))?;
    Ok(CowVal::owned(CelInt::from(number)))
}

/// The version that a text is; loosely when the second argument says so.
fn read(arguments: &[CowVal<'_, '_>]) -> Result<Option<Version>, ExecutionError> {
    let text = text(arguments, 0)?;
    meter::charge(text.len() as u64 / 8 + 4)?;
    let loosely = arguments.get(1).and_then(|v| v.downcast_ref::<CelBool>()).is_some_and(|flag| *flag.inner());
    Ok(if loosely { normalized(text).parse() } else { text.parse() }.ok())
}

/// `v1`, `1.02` as whole versions: without the `v`, without leading zeros, with three numbers.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let mut numbers: Vec<String> = parts
        .iter()
        .map(|part| {
            let trimmed = part.trim_start_matches('0');
            let nothing_left = !trimmed.starts_with(|c: char| c.is_ascii_digit());
            if part.starts_with('0') && nothing_left { format!("0{trimmed}") } else { trimmed.to_owned() }
        })
        .collect();
    // What is short cannot say more than numbers: where would the missing ones go?
    if parts.len() < 3 && text.contains(['+', '-']) {
        return String::new();
    }
    numbers.resize(3, "0".to_owned());
    numbers.join(".")
}
